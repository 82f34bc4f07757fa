"""The environment of a run, on which its results depend beside the config, and its changes since then."""

import hashlib
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from cifar_exp import __version__
from cifar_exp.compute.device import Compute, cpuinfo
from cifar_exp.compute.distributed import torchrun
from cifar_exp.safe_io.untrusted import read_bytes

log = logging.getLogger(__name__)

# The keys of environment.json that can change results; the others (host name, command line) cannot.
# fmt: off
_ENVIRONMENT_KEYS = (
    "cifar_exp", "python", "cpu", "cpu_capability", "threads", "device", "gpu", "cuda", "cudnn", "precision",
    "memory_format", "world_size", "augment_backend", "git_commit", "git_dirty", "code", "data_fingerprint",
)
_PACKAGES = (
    "torch", "torchvision", "numpy", "hydra-core", "omegaconf", "albumentations", "albucore",
    "opencv-python-headless", "captum", "pandas", "Pillow", "matplotlib",
)
# fmt: on
# Values of runs that recorded none.
_UNRECORDED: dict[str, Any] = {"world_size": 1, "augment_backend": "albumentations"}


@dataclass(frozen=True)
class Change:
    """A key on which results depend, with its value in the run and today."""

    what: str
    then: Any
    now: Any


def list_changes(run: Path, then: dict[str, Any], now: dict[str, Any], diff: str | None) -> list[Change]:
    """List what has changed since a run.

    ``then`` and ``now`` are contents of ``environment.json``; ``diff`` holds today's uncommitted changes, and the run's
    are in ``code.diff``.
    """
    then_diff = None
    with suppress(OSError, ValueError):  # no changes, or unreadable ones
        then_diff = read_bytes(run / "code.diff").decode(errors="replace")
    then = {**_UNRECORDED, **then, "code": _digest(then_diff)}
    now = {**_UNRECORDED, **now, "code": _digest(diff)}
    recorded = then.get("packages")
    packages = recorded if isinstance(recorded, dict) else {}
    pairs = [(name, packages.get(name), version) for name, version in now["packages"].items()]
    pairs += [(key, then.get(key), now.get(key)) for key in _ENVIRONMENT_KEYS]
    return [Change(*one) for one in pairs if one[1] != one[2]]


def _digest(diff: str | None) -> str | None:
    """Return a short text that is equal for equal diffs."""
    digest = hashlib.sha256((diff or "").encode("utf-8", "surrogateescape")).hexdigest()
    return None if diff is None else f"uncommitted changes {digest[:12]}"


def log_changes(changes: Sequence[Change]) -> None:
    """Log what has changed."""
    if not changes:
        log.info("Packages, code, machine and data are the same as in the run.")
        return
    log.info("Changed since the run:")
    for change in changes:
        log.info("  %-24s %s -> %s", change.what, _short(change.then), _short(change.now))
    if any(change.what == "data_fingerprint" for change in changes):
        log.warning("The data differs from the run's, so the results will differ.")


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 32 else text[:12] + "…"


def _source_state() -> tuple[str | None, bool | None, str | None]:
    """Git commit of the program's source tree, whether it has uncommitted changes, and their diff.

    All are None if the program was installed without its repository.
    """
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        with suppress(OSError, subprocess.SubprocessError):
            return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        return ""

    # An installed copy can lie in another repository (a .venv does), which does not track the program's files.
    if not git("ls-files", "cifar_exp/runner.py"):
        return None, None, None
    diff = git("diff", "--no-ext-diff", "--no-color", "HEAD")
    # `git diff` leaves out untracked files.
    for name in git("ls-files", "--others", "--exclude-standard", "--", "cifar_exp", "conf").splitlines():
        with suppress(OSError):
            diff += f"\nuntracked file {name}\n{(root / name).read_text(encoding='utf-8', errors='replace')}"
    return git("rev-parse", "HEAD").strip() or None, bool(diff), diff or None


def current_environment(compute: Compute, augment_backend: str, fingerprint: str) -> tuple[dict[str, Any], str | None]:
    """The content of ``environment.json``, and the source tree's uncommitted changes, if there are any."""
    commit, dirty, diff = _source_state()
    source = {"git_commit": commit, "git_dirty": dirty}
    data = {"augment_backend": augment_backend, "data_fingerprint": fingerprint}
    return describe_environment(compute) | source | data, diff


def describe_environment(compute: Compute) -> dict[str, Any]:
    """Machine and software as plain values."""
    device, on_gpu = compute.device, compute.device.type == "cuda"
    versions: dict[str, str | None] = dict.fromkeys(_PACKAGES)
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "cifar_exp": __version__,
        "python": platform.python_version(),
        "packages": versions,
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": cpuinfo("model name") or platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "precision": str(compute.precision).removeprefix("torch."),
        "memory_format": str(compute.memory_format).removeprefix("torch."),
        "world_size": torchrun.world_size(),
        "command_line": sys.argv,
    }
