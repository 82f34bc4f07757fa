"""Cache of decoded data sets on disk. Of several processes, one decodes and the others wait."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from cifar_exp.data.dataset import Dataset, Split, check
from cifar_exp.safe_io.untrusted import open_regular, read_json

log = logging.getLogger(__name__)

_FORMAT = 2  # incremented when the format changes, so that old entries are ignored
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
        return _in_temporary_folder()


def _in_temporary_folder() -> Path:
    """A folder of this user's own: data that another user put there must not be read."""
    folder = Path(tempfile.gettempdir()) / f"cifar_exp-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    if hasattr(os, "getuid") and os.path.lexists(folder) and folder.lstat().st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="cifar_exp-"))
    return folder


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
    held = FileLock(path.with_name(path.name + ".lock"))
    try:
        try:
            held.acquire(blocking=False)
        except Timeout:
            log.info("Waiting for another process that is %s", doing)
            held.acquire()
    except NotImplementedError as error:
        raise OSError(f"no locks on this file system: {error}") from error
    try:
        yield
    finally:
        held.release()


def find_decoded(folder: Path, name: str, key: str) -> Dataset | None:
    """The data set that was cached under ``key``; None if there is none or it is damaged."""
    return _load(_entry(folder, name, key))


def decode_once(folder: Path, name: str, key: str, decode: Callable[[], Dataset]) -> Dataset:
    """The data set cached under ``key``; decoded and cached if there is none.

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
        for leftover in entry.parent.glob(f".{entry.name}-*"):  # of processes that were killed while they wrote
            shutil.rmtree(leftover, ignore_errors=True)
        dataset = decode()
        try:
            _store(entry, dataset)
        except OSError as error:
            log.warning("The decoded data could not be cached in %s: %s.", folder, error)
        return dataset


def _entry(folder: Path, name: str, key: str) -> Path:
    return folder / "decoded" / f"{name}-{hashlib.sha256(f'{_FORMAT}:{key}'.encode()).hexdigest()[:20]}"


def _store(entry: Path, dataset: Dataset) -> None:
    """Write a temporary folder and rename it, so that an entry is always complete."""
    beside = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        for name, split in (("train", dataset.train), ("test", dataset.test)):
            for part in _PARTS:
                np.save(beside / f"{name}_{part}.npy", getattr(split, part))
        content = {
            "class_names": dataset.class_names,
            "fingerprint": dataset.fingerprint,
            "checksum": _checksum(dataset.train, dataset.test, dataset.class_names, dataset.fingerprint),
        }
        (beside / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
        if entry.exists():  # _load found it damaged
            shutil.rmtree(entry)
        beside.rename(entry)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _checksum(train: Split, test: Split, class_names: tuple[str, ...], fingerprint: str) -> int:
    """CRC-32 of the content: fast, and sufficient against disk errors."""
    crc = zlib.crc32(json.dumps([class_names, fingerprint]).encode())
    for split in (train, test):
        for part in _PARTS:
            crc = zlib.crc32(np.ascontiguousarray(getattr(split, part)).data, crc)
    return crc


def _load(entry: Path) -> Dataset | None:
    try:
        content = read_json(entry / "dataset.json")
        train, test = (Split(*(_array(entry / f"{name}_{part}.npy") for part in _PARTS)) for name in ("train", "test"))
        dataset = Dataset(train, test, tuple(content["class_names"]), str(content["fingerprint"]))
        check(train, test, dataset.class_names)
        if _checksum(train, test, dataset.class_names, dataset.fingerprint) != content["checksum"]:
            raise ValueError("its checksum does not match")
        return dataset
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError) as error:
        log.warning("The decoded data in %s is damaged (%s); decoding again.", entry, error)
        return None


def _array(path: Path) -> NDArray[Any]:
    with open_regular(path) as file:
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    return array
