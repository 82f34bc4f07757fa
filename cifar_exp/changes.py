"""What numbers depend on beside the config and what of it has changed since a run was made."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_exp import provenance
from cifar_exp.untrusted import read_bytes

log = logging.getLogger(__name__)

# What can change numbers, of what environment.json holds; the rest (host name, command line) cannot.
_ENVIRONMENT_KEYS = (
    "cifar_exp",
    "python",
    "cpu",
    "cpu_capability",
    "threads",
    "device",
    "gpu",
    "cuda",
    "cudnn",
    "precision",
    "memory_format",
    "world_size",
    "augment_backend",
    "git_commit",
    "git_dirty",
    "code",
    "data_fingerprint",
)
# What a run had that recorded nothing about it.
_UNRECORDED: dict[str, Any] = {"world_size": 1, "augment_backend": "albumentations"}


@dataclass(frozen=True)
class Change:
    """Something that numbers depend on and that is not as it was when the run was made."""

    what: str
    then: Any
    now: Any


def changes(run: Path, then: dict[str, Any], now: dict[str, Any], diff: str | None) -> list[Change]:
    """What has changed since.

    Args:
        run: the run directory, which may hold the uncommitted changes of then.
        then: the content of its ``environment.json``.
        now: the same of today, with the keys of ``provenance.source_state``.
        diff: the uncommitted changes of today.
    """
    now = _UNRECORDED | now | {"code": _digest(diff)}
    try:
        then = _UNRECORDED | then | {"code": _digest(read_bytes(run / "code.diff").decode(errors="replace"))}
    except (OSError, ValueError):  # there were no changes, or they are not to be read
        then = _UNRECORDED | then | {"code": None}
    packages = then.get("packages") if isinstance(then.get("packages"), dict) else {}
    assert packages is not None
    found = [
        Change(name, packages.get(name), version)
        for name, version in now["packages"].items()
        if packages.get(name) != version
    ]
    return found + [
        Change(key, then.get(key), now.get(key)) for key in _ENVIRONMENT_KEYS if then.get(key) != now.get(key)
    ]


def _digest(diff: str | None) -> str | None:
    """Uncommitted changes, as something short that is equal where they are."""
    return None if diff is None else f"uncommitted changes {provenance.short_digest(diff)}"


def tell_changes(found: Sequence[Change]) -> None:
    """Say in the log what has changed."""
    if not found:
        log.info("Nothing that the numbers depend on has changed since the run: packages, code, machine, data.")
        return
    log.info("Changed since the run:")
    for change in found:
        log.info("  %-24s %s -> %s", change.what, _short(change.then), _short(change.now))
    if any(change.what == "data_fingerprint" for change in found):
        log.warning("The data is not the run's: other numbers are to be expected.")


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 32 else text[:12] + "…"
