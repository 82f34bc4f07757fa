"""CIFAR-10 and CIFAR-100 from the published archive, or from the batches unpacked from it.

The format (https://www.cs.toronto.edu/~kriz/cifar.html) is a tar of Python pickles, and a pickle can run code. Only the
published files are unpickled. The archive must have the published SHA-256, a batch the MD5 that torchvision lists.
"""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cifar_exp.data.dataset import Dataset, Split, make_dataset
from cifar_exp.data.sources.cache import cache_folder, decode_once
from cifar_exp.data.sources.download import fetch
from cifar_exp.data.sources.resize import resize_all
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.untrusted import read_bytes

_MAX_BYTES = 256 * 2**20  # of an archive or a batch; the largest real one has 170 MB

SHA256 = {  # of the published archives
    "cifar10": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "cifar100": "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
}


def torchvision_class(name: str) -> Any:
    """Return torchvision's class for ``cifar10`` or ``cifar100``, which names the published archive and its batches."""
    from torchvision.datasets import CIFAR10, CIFAR100  # not at the top: cached data need no PyTorch

    return {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]


def _members(dataset_class: Any) -> dict[str, str]:
    """List the batches and the file of class names in the archive, with the MD5 of each."""
    meta = dataset_class.meta
    return dict([*dataset_class.train_list, *dataset_class.test_list, (meta["filename"], meta["md5"])])


def load_cifar(
    name: str, *, root: str | None, url: str | Sequence[str], sha256: str, cache: str | None, image_size: int
) -> Dataset:
    """Load ``cifar10`` or ``cifar100``.

    Args:
        name: ``cifar10`` or ``cifar100``.
        root: a local archive, or a folder that holds it or its unpacked batches; None downloads.
        url: address or addresses to download from, in the order to try.
        sha256: SHA-256 of the archive; must be that of the published one.
        cache: cache folder (see ``cache_folder``).
        image_size: height and width in pixels; images are resized if it is not 32.

    Raises:
        RequestError: nothing at ``root``, no network, or files that are not the published ones.
    """
    if sha256 != SHA256[name]:
        raise RequestError(
            f"data.sha256={sha256}: must be {SHA256[name]}, the published archive of {name}; for other images use "
            "data=image_folder or data=image_csv"
        )
    cache_dir = cache_folder(cache)
    content: bytes | None = None
    if root is not None:
        dataset_class = torchvision_class(name)
        local = _find(Path(root), dataset_class)
        if local.is_dir():
            stats = [(local / member).stat() for member in _members(dataset_class)]
            key = f"folder {local} {image_size} {[(stat.st_size, stat.st_mtime_ns) for stat in stats]}"

            def decode_folder() -> Dataset:
                batches = {member: _read(local / member, "md5", md5) for member, md5 in _members(dataset_class).items()}
                return _decode(dataset_class, batches, image_size)

            return decode_once(cache_dir, name, key, decode_folder)
        content = _read(local, "sha256", sha256)

    def decode() -> Dataset:
        dataset_class = torchvision_class(name)
        archive = content or _read(_download(cache_dir, dataset_class, url, sha256), "sha256", sha256)
        return _decode(dataset_class, _read_archive(archive, dataset_class), image_size)

    return decode_once(cache_dir, name, f"archive {sha256} {image_size}", decode)


def _find(root: Path, dataset_class: Any) -> Path:
    """Return the folder of unpacked batches (``root`` or one in it), or else the archive."""
    members = _members(dataset_class)
    missing_files = {
        folder: [member for member in members if not (folder / member).is_file()]
        for folder in (root, root / dataset_class.base_folder)
    }
    for folder, missing in missing_files.items():
        if not missing:
            return folder
    archive = root / dataset_class.filename if root.is_dir() else root
    if archive.is_file():
        return archive
    for folder, missing in missing_files.items():
        if len(missing) < len(members):
            raise RequestError(f"data.root={root}: {folder} is incomplete, without {', '.join(missing)}")
    hint = "; a tree of image files is read by data=image_folder" if (root / "train").is_dir() else ""
    raise RequestError(
        f"data.root={root}: is neither the archive nor a folder with {dataset_class.filename} or "
        f"{dataset_class.base_folder}{hint}"
    )


def _download(cache_dir: Path, dataset_class: Any, url: str | Sequence[str], sha256: str) -> Path:
    if not url:
        raise RequestError(f"the archive is not in the cache folder {cache_dir}, and data.url is empty")
    archive = cache_dir / "downloads" / f"{sha256[:12]}-{dataset_class.filename}"
    hint = (
        "Set data.root=PATH to your own copy or data.url=URL to a mirror, or use experiment=quickstart, which needs "
        "no network."
    )
    try:
        fetch([url] if isinstance(url, str) else url, sha256, archive, hint=hint)
    except OSError as error:
        raise RequestError(f"cannot write {archive.name}: {error}; set another folder by data.cache=FOLDER") from error
    return archive


def _read(path: Path, algorithm: str, expected: str) -> bytes:
    """Read the file once: the bytes that are decoded are the bytes that were checked."""
    try:
        content = read_bytes(path, _MAX_BYTES)
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from error
    digest = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if digest != expected:
        raise RequestError(
            f"{path}: its {algorithm.upper()} is {digest}, expected {expected}; it is damaged or not the published file"
        )
    return content


def _read_archive(content: bytes, dataset_class: Any) -> dict[str, bytes]:
    wanted = {f"{dataset_class.base_folder}/{member}": member for member in _members(dataset_class)}
    # In the archive's order: seeking is slow.
    with tarfile.open(fileobj=io.BytesIO(content), mode="r|gz") as tar:
        return {wanted[entry.name]: tar.extractfile(entry).read() for entry in tar if entry.name in wanted}  # type: ignore[union-attr]


def _decode(dataset_class: Any, batches: dict[str, bytes], image_size: int) -> Dataset:
    """Decode the batches. Unpickling is safe, because ``_read`` has checked their hashes."""
    content = {member: pickle.loads(batch, encoding="latin1") for member, batch in batches.items()}
    train, test = (
        _split({name: content[name] for name, _ in part}, image_size)
        for part in (dataset_class.train_list, dataset_class.test_list)
    )
    return make_dataset(train, test, tuple(content[dataset_class.meta["filename"]][dataset_class.meta["key"]]))


def _split(batches: dict[str, dict[str, Any]], image_size: int) -> Split:
    pixels = np.concatenate([batch["data"] for batch in batches.values()])  # (N, 3072) uint8
    images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # (N, H, W, C)
    labels = [label for batch in batches.values() for label in batch.get("labels") or batch["fine_labels"]]
    sources = np.array([f"{member}[{row}]" for member, batch in batches.items() for row in range(len(batch["data"]))])
    return Split(resize_all(images, image_size), np.array(labels, np.int64), sources)
