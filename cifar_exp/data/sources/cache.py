"""Decoded data sets kept on disk: decoded once, by one process, however many start at the same time."""

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

_FORMAT = 2  # raised when the files below change their meaning, so that old entries are not read
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
    """This user's own folder where all users write: what another one put there would be taken for data."""
    folder = Path(tempfile.gettempdir()) / f"cifar_exp-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    if hasattr(os, "getuid") and os.path.lexists(folder) and folder.lstat().st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="cifar_exp-"))
    return folder


@contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Hold a lock that other processes respect and that the system drops when its holder dies.

    Args:
        path: what is to be made; the lock lies beside it.
        doing: what the process that holds it does, for the message to whoever waits.

    Raises:
        OSError: the folder cannot be written to, or its file system has no locks.
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
    """The decoded data set that was kept under ``key``, or None where there is none that is whole."""
    return _load(_entry(folder, name, key))


def decode_once(folder: Path, name: str, key: str, decode: Callable[[], Dataset]) -> Dataset:
    """The decoded data set kept under ``key``, decoding it first where no process has done so.

    Args:
        folder: the cache folder; where it cannot be written to, the data is decoded every time.
        name: the data set's name, for people who look into the folder.
        key: text that changes whenever the decoded content would.
        decode: makes the data set.
    """
    entry = _entry(folder, name, key)
    if (dataset := _load(entry)) is not None:
        return dataset
    with ExitStack() as held:
        try:
            held.enter_context(locked(entry, f"decoding {name}"))
        except OSError as error:
            log.warning("The cache folder %s cannot be used (%s): decoding without it.", folder, error)
            return decode()
        if (dataset := _load(entry)) is not None:  # another process did it while this one waited
            return dataset
        _remove_leftovers(entry)
        dataset = decode()
        try:
            _store(entry, dataset)
        except OSError as error:
            log.warning("The decoded data could not be kept in %s: %s.", folder, error)
        return dataset


def _entry(folder: Path, name: str, key: str) -> Path:
    return folder / "decoded" / f"{name}-{hashlib.sha256(f'{_FORMAT}:{key}'.encode()).hexdigest()[:20]}"


def _store(entry: Path, dataset: Dataset) -> None:
    """Write beside the entry's place and rename: an entry that exists is whole."""
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
        if entry.exists():  # what _load found damaged
            shutil.rmtree(entry)
        beside.rename(entry)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _remove_leftovers(entry: Path) -> None:
    """What processes left that were killed while they wrote this entry; whoever calls holds its lock."""
    for beside in entry.parent.glob(f".{entry.name}-*"):
        shutil.rmtree(beside, ignore_errors=True)


def _checksum(train: Split, test: Split, class_names: tuple[str, ...], fingerprint: str) -> int:
    """CRC-32 of everything kept: fast, and enough against disks that change bits."""
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
        log.warning("The decoded data in %s is damaged (%s): decoding again.", entry, error)
        return None


def _array(path: Path) -> NDArray[Any]:
    with open_regular(path) as file:  # a pipe would never end
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    return array
