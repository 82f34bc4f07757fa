"""Cache of decoded data sets on disk. Of several processes, one decodes and the others wait."""

import hashlib
import logging
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.safe_io.untrusted import open_regular

log = logging.getLogger(__name__)

_FORMAT = 3  # incremented when the format changes, so that old entries are ignored
_PARTS = ("images", "labels", "sources")


def cache_folder(configured: str | None) -> Path:
    """``data.cache``, else the environment's ``CIFAR_EXP_CACHE``, else ``cifar_exp`` in the user's cache folder.

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
    """Hold a lock, which the system releases if the process dies.

    Args:
        path: the file or folder to be made; the lock file lies beside it.
        doing: the work under the lock, for the log of a waiting process.

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
    """The data set cached under ``key``; decoded and cached if it is missing.

    Args:
        folder: the cache folder; if it is not writable, the data is decoded every time.
        name: name of the data set, as part of the entry's name.
        key: text that differs if the decoded content differs.
        decode: returns the decoded data set.
    """
    entry = _entry(folder, name, key)
    if (dataset := _load(entry)) is not None:
        return dataset
    with ExitStack() as held:
        try:
            held.enter_context(locked(entry, f"decoding {name}"))
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


def _entry(folder: Path, name: str, key: str) -> Path:
    return folder / "decoded" / f"{name}-{hashlib.sha256(f'{_FORMAT}:{key}'.encode()).hexdigest()[:20]}.npy"


def _store(entry: Path, dataset: Dataset) -> None:
    """Write one array after the other, and their checksum. The caller holds the lock."""
    parts = [getattr(split, part) for split in (dataset.train, dataset.test) for part in _PARTS]
    arrays = [*parts, np.array(dataset.class_names), np.array(dataset.fingerprint)]
    beside = entry.with_name(f".{entry.name}.tmp")  # renamed, so that an entry is always complete
    try:
        with beside.open("wb") as file:
            for array in (*arrays, np.array(_checksum(arrays))):
                np.save(file, array)
        beside.replace(entry)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _load(entry: Path) -> Dataset | None:
    """The stored data set; None if it is missing or damaged."""
    try:
        with open_regular(entry) as file:
            *arrays, checksum = (np.load(file, allow_pickle=False) for _ in range(2 * len(_PARTS) + 3))
        if _checksum(arrays) != checksum:
            raise ValueError("its checksum does not match")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # NumPy reports wrong bits of a header by errors of many types
        log.warning("The decoded data in %s is damaged (%s); decoding again.", entry, error)
        return None
    train, test, (names, fingerprint) = arrays[:3], arrays[3:6], arrays[6:]
    return Dataset(Split(*train), Split(*test), tuple(names.tolist()), str(fingerprint))


def _checksum(arrays: Sequence[NDArray[Any]]) -> int:
    """CRC-32: fast, and sufficient against disk errors."""
    return reduce(lambda crc, array: zlib.crc32(np.ascontiguousarray(array).data, crc), arrays, 0)
