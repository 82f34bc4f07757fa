"""The environment variables that ``torchrun`` sets; imports nothing heavy."""

import os

from cifar_exp.errors import RequestError


def world_size() -> int:
    """Number of processes that torchrun started on all machines; 1 without torchrun."""
    return _count("WORLD_SIZE")


def local_world_size() -> int:
    """Number of processes that torchrun started on this machine; 1 without torchrun."""
    return _count("LOCAL_WORLD_SIZE")


def _count(name: str) -> int:
    # Other programs set these variables, too.
    return int(os.environ.get(name, "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def require_one_process(request: str) -> None:
    """Refuse a request that several processes cannot handle together."""
    if world_size() > 1:
        raise RequestError(
            f"{request}: works in one process only, but torchrun started {world_size()}; run cifar-exp without torchrun"
        )
