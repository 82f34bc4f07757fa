"""Cache of decoded data sets on disk. Of several processes, one decodes and the others wait."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.safe_io.untrusted import open_regular

log = logging.getLogger(__name__)

_FORMAT = 4  # incremented when the format changes, so that old entries are ignored


def cache_folder(configured: str | None) -> Path:
    """Return ``data.cache``, else the environment's ``CIFAR_EXP_CACHE``, else ``cifar_exp`` in the user's cache folder.

    The user's cache folder is the XDG base directory: ``XDG_CACHE_HOME``, else ``~/.cache``.
    """
    if configured is not None:
        return Path(configured)
    if named := os.environ.get("CIFAR_EXP_CACHE"):
        return Path(named).expanduser().absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "cifar_exp"
    try:
        return Path.home() / ".cache" / "cifar_exp"
    except RuntimeError:  # no home folder
        return Path(tempfile.mkdtemp(prefix="cifar_exp-"))  # of this process: another user cannot have written to it


@contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock of a file that is to be made. The system releases it if the process dies.

    A waiting process logs what the other one is ``doing``.

    Raises:
        OSError: the folder is not writable, or its file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("Waiting for another process that is %s", doing)
        lock.acquire()
    except NotImplementedError as error:
        raise OSError(f"no locks on this file system: {error}") from error
    try:
        yield
    finally:
        lock.release()


def decode_once(folder: Path, name: str, key: str, decode: Callable[[], Dataset]) -> Dataset:
    """Read the data set ``name`` from the cache ``folder``; decode and cache it if it is missing.

    ``key`` is a text that differs if the decoded content differs. If the folder is not writable, the data is decoded
    every time.
    """
    digest = hashlib.sha256(f"{_FORMAT}:{key}".encode()).hexdigest()
    entry = folder / "decoded" / f"{name}-{digest[:20]}.npz"
    if (dataset := _load(entry)) is not None:
        return dataset
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(entry, f"decoding {name}"))
        except OSError as error:
            log.warning("The cache folder %s cannot be used (%s); decoding without it.", folder, error)
            return decode()
        if (dataset := _load(entry)) is not None:  # by another process while this one waited
            return dataset
        dataset = decode()
        try:
            _store(entry, dataset)
        except OSError as error:
            log.warning("The decoded data could not be cached in %s: %s.", folder, error)
        return dataset


def _store(entry: Path, dataset: Dataset) -> None:
    """Write an uncompressed ZIP file of arrays, which holds their checksums. The caller holds the lock."""
    arrays = [*vars(dataset.train).values(), *vars(dataset.test).values(), dataset.class_names, dataset.fingerprint]
    temporary = entry.with_name(f".{entry.name}.tmp")  # renamed, so that an entry is always complete
    try:
        with temporary.open("wb") as file:
            np.savez(file, *arrays)
        temporary.replace(entry)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _load(entry: Path) -> Dataset | None:
    """Read a stored data set; None if it is missing or damaged."""
    try:
        with open_regular(entry) as file, np.load(file) as arrays:
            *splits, names, fingerprint = (arrays[name] for name in arrays)  # reading checks the checksums
        return Dataset(Split(*splits[:3]), Split(*splits[3:]), tuple(names.tolist()), str(fingerprint))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # NumPy reports wrong bits of a header by errors of many types
        log.warning("The decoded data in %s is damaged (%s); decoding again.", entry, error)
        return None
