"""CIFAR-10 and CIFAR-100 from the archive that torchvision uses, without trusting it.

The format (https://www.cs.toronto.edu/~kriz/cifar.html) is a tar of Python pickles, and a pickle can run code. So the
archive's SHA-256 is checked first, its members are read without being extracted, and unpickling is restricted
to what the format needs: dictionaries of lists, bytes and NumPy arrays.
"""

import gzip
import io
import logging
import tarfile
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from cifar_exp.data.dataset import Dataset, Split, make_dataset
from cifar_exp.data.sources.cache import cache_folder, decode_once, find_decoded
from cifar_exp.data.sources.download import fetch, sha256_of
from cifar_exp.data.sources.pickles import read_pickle
from cifar_exp.data.sources.resize import resize_all
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.untrusted import printable, read_bytes

log = logging.getLogger(__name__)

_MAX_MEMBER_BYTES = 256 * 2**20  # the largest real one, CIFAR-100's train, is 155 MB
_MAX_MEMBERS = 1000  # a real one has 9
_MAX_UNPACKED_BYTES = 512 * 2**20  # of a whole archive; a real one unpacks to 186 MB

# name: (folder in the archive, training members, test members, meta member, labels key, class names key)
_LAYOUTS = {
    "cifar10": (
        "cifar-10-batches-py",
        [f"data_batch_{n}" for n in range(1, 6)],
        ["test_batch"],
        "batches.meta",
        "labels",
        "label_names",
    ),
    "cifar100": ("cifar-100-python", ["train"], ["test"], "meta", "fine_labels", "fine_label_names"),
}


def load_cifar(name: str, *, root: str | None, url: str, sha256: str, cache: str | None, image_size: int) -> Dataset:
    """Load CIFAR-10 or CIFAR-100.

    Args:
        name: ``cifar10`` or ``cifar100``.
        root: a local archive, or a folder that holds it or its unpacked batches; None downloads.
        url: where to download from.
        sha256: the archive's expected digest.
        cache: cache folder (see ``cache_folder``).
        image_size: pixels; other than 32 resizes.

    Raises:
        RequestError: nothing at ``root``, a wrong digest, no network, or content that is not CIFAR's.
    """
    folder = cache_folder(cache)
    if root is not None and (batches := _unpacked_batches(Path(root), name)) is not None:
        stats = [(batches / member).stat() for member in _members(name)]
        key = f"folder {batches} {image_size} {[(stat.st_size, stat.st_mtime_ns) for stat in stats]}"
        return decode_once(folder, name, key, lambda: _decode_folder(name, batches, image_size))

    key = f"archive {sha256} {image_size}"
    if root is None:
        if (dataset := find_decoded(folder, name, key)) is not None:
            return dataset
        archive = _downloaded(folder, url, sha256)
    else:
        archive = _local_archive(Path(root), name, url)
        if (size := archive.stat().st_size) > _MAX_UNPACKED_BYTES:
            raise RequestError(f"{archive}: {size:,} bytes are more than an archive of CIFAR has")
        if (digest := sha256_of(archive)) != sha256:
            raise RequestError(
                f"{archive}: SHA-256 is {digest}, expected {sha256}; "
                "a damaged or different archive is not unpacked (data.sha256=... if it is what you want)"
            )
    return decode_once(folder, name, key, lambda: _decode_archive(name, archive, image_size))


def _members(name: str) -> list[str]:
    _, train, test, meta, _, _ = _LAYOUTS[name]
    return [*train, *test, meta]


def _unpacked_batches(root: Path, name: str) -> Path | None:
    """The folder of unpacked batches that is at ``root`` or in it."""
    for folder in (root, root / _LAYOUTS[name][0]):
        if all((folder / member).is_file() for member in _members(name)):
            return folder
    return None


def _local_archive(root: Path, name: str, url: str) -> Path:
    archive_name = _archive_name(url)
    archive = root / archive_name if root.is_dir() else root
    if not archive.is_file():
        for folder in (root, root / _LAYOUTS[name][0]):
            missing = [member for member in _members(name) if not (folder / member).is_file()]
            if len(missing) < len(_members(name)):
                raise RequestError(f"data.root={root}: {folder} is incomplete: there is no {', '.join(missing)}")
        tree = root / "train"
        raise RequestError(
            f"data.root={root}: no such archive, and no {archive_name} or {_LAYOUTS[name][0]} in it"
            + ("; a tree of image files is read by data=image_folder" if tree.is_dir() else "")
        )
    return archive


def _archive_name(url: str) -> str:
    try:
        return Path(urlsplit(url).path).name or "archive.tar.gz"
    except ValueError as error:
        raise RequestError(f"data.url={url}: {error}") from error


def _downloaded(folder: Path, url: str, sha256: str) -> Path:
    if not url:
        raise RequestError(f"the archive is not in the cache folder {folder}, and data.url is empty")
    # The digest in the name keeps archives of the same name from different addresses apart.
    archive = folder / "downloads" / f"{sha256[:12]}-{_archive_name(url)}"
    hint = (
        "Name a local copy by data.root=PATH or a mirror by data.url=URL, or try data=mnist5k, which needs no network."
    )
    try:
        fetch(url, sha256, archive, hint=hint)
    except OSError as error:
        raise RequestError(f"cannot keep {archive.name}: {error}; name another folder by data.cache=FOLDER") from error
    return archive


def _decode_folder(name: str, batches: Path, image_size: int) -> Dataset:
    try:
        content = {member: read_bytes(batches / member, _MAX_MEMBER_BYTES) for member in _members(name)}
    except (OSError, ValueError) as error:
        raise RequestError(f"{batches}: the batches cannot be read: {error}") from error
    return _decode(name, content, image_size)


def _decode_archive(name: str, archive: Path, image_size: int) -> Dataset:
    log.info("Decoding %s", archive)
    wanted = {f"{_LAYOUTS[name][0]}/{member}": member for member in _members(name)}
    found: dict[str, bytes] = {}
    try:
        with gzip.open(archive) as unpacked, tarfile.open(fileobj=_Bounded(unpacked, archive), mode="r|") as tar:
            # Read in the archive's own order: seeking back in a compressed file starts over.
            for number, entry in enumerate(tar):
                if number > _MAX_MEMBERS:
                    raise RequestError(f"{archive}: has more than {_MAX_MEMBERS} members; no CIFAR has")
                # A sparse member, in either of tar's two ways, holds fewer bytes than it unpacks to.
                if entry.name in wanted and entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not entry.issparse():
                    if entry.size > _MAX_MEMBER_BYTES:
                        raise RequestError(
                            f"{archive}: {entry.name} claims {entry.size} bytes, more than the format has"
                        )
                    content = tar.extractfile(entry)
                    assert content is not None  # it is a regular file
                    found[wanted[entry.name]] = content.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise RequestError(f"{archive}: not a readable .tar.gz archive: {error}") from error
    if missing := [member for member in wanted.values() if member not in found]:
        raise RequestError(f"{archive}: holds no {', '.join(missing)}; is it the archive of {name}?")
    return _decode(name, {member: found[member] for member in _members(name)}, image_size)


class _Bounded(io.RawIOBase):
    """What an archive unpacks to, up to a limit: a few kilobytes can unpack to gigabytes."""

    def __init__(self, unpacked: gzip.GzipFile, archive: Path) -> None:
        self._unpacked = unpacked
        self._archive = archive

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes."""
        if self._unpacked.tell() > _MAX_UNPACKED_BYTES:
            raise RequestError(f"{self._archive}: unpacks to more than {_MAX_UNPACKED_BYTES:,} bytes; no CIFAR does")
        return self._unpacked.read(size)


def _decode(name: str, batches: dict[str, bytes], image_size: int) -> Dataset:
    _, train, test, meta, labels_key, names_key = _LAYOUTS[name]
    try:
        class_names = _texts(read_pickle(batches[meta])[names_key])
        splits = [
            _split([(member, read_pickle(batches[member])) for member in members], labels_key, image_size)
            for members in (train, test)
        ]
        return make_dataset(splits[0], splits[1], class_names)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"not the batches of {name}: {type(error).__name__}: {error}") from error


def _split(batches: list[tuple[str, dict[str, Any]]], labels_key: str, image_size: int) -> Split:
    pixels = np.concatenate([batch["data"] for _, batch in batches])
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3 * 32 * 32:
        raise ValueError(f"pixels must be (N, 3072) uint8, not {pixels.shape} {pixels.dtype}")
    images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # (N, H, W, C)
    labels = np.concatenate([_integers(batch[labels_key]) for _, batch in batches])
    sources = np.array([f"{member}[{row}]" for member, batch in batches for row in range(len(batch["data"]))])
    return Split(resize_all(images, image_size), labels, sources)


def _texts(names: object) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("class names must be a list of texts")  # a list in a list can unfold to gigabytes
    return tuple(map(printable, names))


def _integers(labels: object) -> NDArray[np.int64]:
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        return np.array(labels, np.int64)
    if isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    raise ValueError("labels must be a list of whole numbers")
