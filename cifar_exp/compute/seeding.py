"""Seeds and threads."""

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(*parts: int | str) -> int:
    """A seed in [0, 2**32) that is a function of all parts.

    Sums and products of seed, epoch and batch collide; a hash of them does not.

    >>> derived_seed(0, "augment", 1, 2) != derived_seed(0, "augment", 2, 1)
    True
    """
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little")


def seed_everything(seed: int, *, deterministic: bool, threads: int | None, device: torch.device) -> None:
    """Seed the global generators and select repeatable kernels.

    Every run calls this, as runs of a sweep may share a process.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for libraries that draw from NumPy's global state
    torch.manual_seed(seed)
    if deterministic:
        # cuBLAS reads this when it starts; without it, deterministic matrix products raise an error.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # On Apple's GPUs some operations, such as max-pooling, have no repeatable form: a warning there.
    torch.use_deterministic_algorithms(deterministic, warn_only=device.type == "mps")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # takes time, and no code here reads uninitialized memory
    torch.backends.cudnn.benchmark = not deterministic
    set_threads(threads)


def device_generator(device: torch.device) -> torch.Generator:
    """The global generator of a GPU."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.mps._get_default_mps_generator()


@contextmanager
def generators_kept(device: torch.device, *, seed: int | None = None) -> Iterator[None]:
    """Restore all global random generators after the block.

    ``seed`` is that of PyTorch's generators in the block; None keeps their states.
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
    """Set the number of CPU threads; None restores the number that PyTorch chose at the start of the program."""
    torch.set_num_threads(threads or _DEFAULT_THREADS)
