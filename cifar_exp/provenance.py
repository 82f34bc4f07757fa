"""What a run's numbers depend on beside its config: seeds, device, precision, threads, versions, source code."""

import hashlib
import os
import platform
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cifar_exp import __version__, torchrun
from cifar_exp.errors import RequestError
from cifar_exp.plural import plural

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "hydra-core",
    "omegaconf",
    "albumentations",
    "albucore",
    "opencv-python-headless",
    "captum",
    "pandas",
    "Pillow",
    "matplotlib",
)


def derived_seed(*parts: int | str) -> int:
    """A seed in [0, 2**32) that depends on all parts and on nothing else.

    Sums and products of seed, epoch and batch collide; a hash of them does not.

    >>> derived_seed(0, "augment", 1, 2) != derived_seed(0, "augment", 2, 1)
    True
    """
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little")


def short_digest(text: str) -> str:
    """Twelve hexadecimal digits that are equal where texts are."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def seed_everything(seed: int, *, deterministic: bool, threads: int | None, device: torch.device) -> None:
    """Seed the global generators and choose repeatable kernels.

    Runs of one sweep share a process, so every run calls this, and nothing is left over from the one before.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for libraries that draw from NumPy's global state
    torch.manual_seed(seed)
    if deterministic:
        # cuBLAS reads this when it starts; without it deterministic matrix products raise.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # On Apple's GPUs max-pooling, among others, has no repeatable form: a warning there, an error elsewhere.
    torch.use_deterministic_algorithms(deterministic, warn_only=device.type == "mps")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # costs time, and nothing here reads such memory
    torch.backends.cudnn.benchmark = not deterministic
    set_threads(threads)


def device_generator(device: torch.device) -> torch.Generator:
    """The global generator that draws on a device which is not the CPU."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.mps._get_default_mps_generator()


@contextmanager
def generators_kept(device: torch.device, *, seed: int | None = None) -> Iterator[None]:
    """Leave all global generators of random numbers as they were before the block.

    Args:
        device: whose generator PyTorch draws from, beside the CPU's.
        seed: of PyTorch's generators in the block; None goes on with their states.
    """
    pythons, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002 - a user's network may draw from it
    generators = [torch.default_generator, *([] if device.type == "cpu" else [device_generator(device)])]
    states = [generator.get_state() for generator in generators]
    try:
        if seed is not None:
            for generator in generators:
                generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        random.setstate(pythons)
        np.random.set_state(numpys)  # noqa: NPY002


_DEFAULT_THREADS = torch.get_num_threads()


def set_threads(threads: int | None) -> None:
    """Compute with so many CPU threads; None takes as many as PyTorch chose when the program started."""
    torch.set_num_threads(threads or _DEFAULT_THREADS)


def resolve_device(name: str) -> torch.device:
    """The device to run on. ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        RequestError: the named device is not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise RequestError(
                f"device={name}: this machine has {plural(count, 'CUDA device')} "
                "that PyTorch can use; device=auto takes the best one there is"
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise RequestError("device=mps: not available on this machine; device=auto takes the best one there is")
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16 itself, rather than emulating it (slower than float32)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(_cpu_flags() & {"amx_bf16", "avx512_bf16", "bf16"})  # the last is ARM's name
    return False


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The type that convolutions compute in. ``auto`` takes bfloat16 where the hardware has it."""
    if name == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def resolve_memory_format(name: str, device: torch.device, precision: torch.dtype) -> torch.memory_format:
    """The layout of images and filters. ``auto`` takes the faster one, by measurement (see below)."""
    if name == "auto":
        # ResNet-18 in float32: channels_last is 1.1x to 1.2x as fast on AVX-512 CPUs without AMX (Intel's without
        # bfloat16, AMD's with it), and slower than contiguous on one with AMX.
        amx = device.type == "cpu" and precision is torch.float32 and "amx_bf16" in _cpu_flags()
        return torch.contiguous_format if amx or device.type == "mps" else torch.channels_last
    return {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[name]


def reset_peak_memory() -> None:
    """Measure peak memory from here on, where the system can: the jobs of a sweep share one process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(index)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes(device: torch.device) -> int | None:
    """Most memory held since ``reset_peak_memory``: allocated on the GPU, or else resident (None where unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError, StopIteration):  # Linux
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes elsewhere


def source_state() -> dict[str, Any]:
    """Git commit of the program's own source tree, whether it has uncommitted changes, and their diff.

    All values are None where the program was installed without its repository.
    """
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout

    # An installed copy can lie inside some other repository (a .venv does): only its own tracked files count.
    if not git("ls-files", "cifar_exp/provenance.py"):
        return {"git_commit": None, "git_dirty": None, "diff": None}
    commit, diff = git("rev-parse", "HEAD"), git("diff", "--no-ext-diff", "--no-color", "HEAD") or ""
    # `git diff` leaves out files that git does not know yet.
    for name in (git("ls-files", "--others", "--exclude-standard", "--", "cifar_exp", "conf") or "").splitlines():
        with suppress(OSError):
            diff += f"\nuntracked file {name}\n{(root / name).read_text(encoding='utf-8', errors='replace')}"
    return {"git_commit": commit.strip() if commit else None, "git_dirty": bool(diff), "diff": diff or None}


def environment(device: torch.device, precision: torch.dtype, memory_format: torch.memory_format) -> dict[str, Any]:
    """The machine and the software, as plain values for ``environment.json``."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "cifar_exp": __version__,
        "python": platform.python_version(),
        "packages": versions,
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": gpu,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,
        "precision": str(precision).removeprefix("torch."),
        "memory_format": str(memory_format).removeprefix("torch."),
        "world_size": torchrun.processes(),
        "command_line": sys.argv,
    }


def _cpuinfo(field: str) -> str | None:
    """The first value of a field of Linux's ``/proc/cpuinfo``."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), None)


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpu_flags() -> set[str]:
    return set((_cpuinfo("flags") or _cpuinfo("Features") or "").split())
