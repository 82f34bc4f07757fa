"""What ``torchrun`` says about the processes that it started, without importing anything heavy."""

import os

from cifar_exp.errors import RequestError


def processes() -> int:
    """How many processes torchrun started for this program on all machines; 1 where it did not."""
    return _said("WORLD_SIZE")


def processes_here() -> int:
    """How many of them are on this machine."""
    return _said("LOCAL_WORLD_SIZE")


def _said(name: str) -> int:
    value = os.environ.get(name, "1") if "TORCHELASTIC_RUN_ID" in os.environ else "1"
    return int(value) if value.isascii() and value.isdigit() else 1


def refuse(what: str) -> None:
    """Refuse what several processes cannot do together.

    Raises:
        RequestError: torchrun started more than one.
    """
    if processes() > 1:
        raise RequestError(
            f"{what}: works in one process, and torchrun started {processes()}; call cifar-exp without torchrun"
        )
