"""Decoded data sets kept on disk: decoded once, by one process, however many start at the same time."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock

from cifar_exp.data.dataset import Dataset, Split

log = logging.getLogger(__name__)

_FORMAT = 1  # raised when the files below change their meaning, so that old entries are not read


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
        return Path(tempfile.gettempdir()) / "cifar_exp"


def lock(path: Path) -> FileLock:
    """A lock that other processes respect and that the system drops when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(path.name + ".lock"))


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
    try:
        held = lock(entry)
        held.acquire()
    except OSError as error:
        log.warning("The cache folder %s cannot be used (%s): decoding without it.", folder, error)
        return decode()
    try:
        if (dataset := _load(entry)) is not None:  # another process did it while this one waited
            return dataset
        dataset = decode()
        try:
            _store(entry, dataset)
        except OSError as error:
            log.warning("The decoded data could not be kept in %s: %s.", folder, error)
        return dataset
    finally:
        held.release()


def _entry(folder: Path, name: str, key: str) -> Path:
    return folder / "decoded" / f"{name}-{hashlib.sha256(f'{_FORMAT}:{key}'.encode()).hexdigest()[:20]}"


def _store(entry: Path, dataset: Dataset) -> None:
    """Write beside the entry's place and rename: an entry that exists is whole."""
    beside = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        for name, split in (("train", dataset.train), ("test", dataset.test)):
            np.save(beside / f"{name}_images.npy", split.images)
            np.save(beside / f"{name}_labels.npy", split.labels)
            np.save(beside / f"{name}_sources.npy", split.sources)
        content = {"class_names": dataset.class_names, "fingerprint": dataset.fingerprint}
        (beside / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
        if entry.exists():  # what _load found damaged
            shutil.rmtree(entry)
        beside.rename(entry)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _load(entry: Path) -> Dataset | None:
    try:
        content = json.loads((entry / "dataset.json").read_text(encoding="utf-8"))
        train, test = (
            Split(
                *(np.load(entry / f"{name}_{part}.npy", allow_pickle=False) for part in ("images", "labels", "sources"))
            )
            for name in ("train", "test")
        )
        return Dataset(train, test, tuple(content["class_names"]), str(content["fingerprint"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        log.warning("The decoded data in %s is damaged (%s): decoding again.", entry, error)
        return None
