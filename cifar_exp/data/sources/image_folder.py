"""Any tree of ``train/CLASS/*`` and ``test/CLASS/*`` images, decoded in parallel once and then kept."""

import hashlib
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from cifar_exp.data.dataset import Dataset, Split, make_dataset
from cifar_exp.data.sources.cache import cache_folder, decode_once
from cifar_exp.data.sources.resize import fit, room_for
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.untrusted import printable

_MAX_PIXELS = 64_000_000  # 192 MB decoded; a "bomb" of 50,000 x 50,000 would take 7.5 GB
_CHUNK = 500  # images that one process decodes at a time
# Only these decoders are tried: among Pillow's others is one that starts another program (Ghostscript).
_FORMATS = ("JPEG", "JPEG2000", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "TGA")
_NOT_IMAGES = {"Thumbs.db", "desktop.ini"}  # what file managers leave behind; so are names with a leading dot


class _File(NamedTuple):
    """An image file: path relative to the root, its class's position, size and time of change.

    Listing 60,000 files is most of what starting again on decoded images takes, so they are plain tuples of text.
    """

    path: str
    label: int
    size: int
    changed_ns: int


def load_image_folder(*, root: str | None, cache: str | None, image_size: int) -> Dataset:
    """Load the tree at ``root``.

    The decoded images are kept under a key made of every file's path, size and time of change, so a later start
    only lists the files. Order: by class name, then by path.

    Args:
        root: folder with ``train/CLASS/*`` and ``test/CLASS/*``.
        cache: cache folder (see ``cache_folder``).
        image_size: pixels; images of another size are scaled and cropped to a square of it.

    Raises:
        RequestError: a missing or empty folder, different classes in train and test, or a file that is not a
            readable image (named).
    """
    if root is None:
        raise RequestError("data=image_folder: name the folder that holds train/ and test/ by data.root=FOLDER")
    base = Path(root)
    names = {split: _class_names(base, split) for split in ("train", "test")}
    if names["train"] != names["test"]:
        missing = {
            split: sorted(set(names[other]) - set(names[split]))
            for split, other in (("train", "test"), ("test", "train"))
        }
        told = "; ".join(f"{split}/ has no {', '.join(absent)}" for split, absent in missing.items() if absent)
        raise RequestError(f"{base}: train/ and test/ must hold the same class folders: {told}")
    files = {split: _list_files(base, split, names[split]) for split in ("train", "test")}
    key = hashlib.sha256(repr((str(base.resolve()), image_size, files)).encode("utf-8", "surrogateescape")).hexdigest()

    def decode() -> Dataset:
        train, test = (_decode(base, files[split], image_size, split) for split in ("train", "test"))
        try:
            return make_dataset(train, test, tuple(map(_printable, names["train"])))
        except ValueError as error:
            raise RequestError(f"{base}: {error}") from error

    return decode_once(cache_folder(cache), "image_folder", key, decode)


def _class_names(base: Path, split: str) -> list[str]:
    folder = base / split
    if not folder.is_dir():
        raise RequestError(f"data.root={base}: there is no folder {folder}; expected train/CLASS/* and test/CLASS/*")
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise RequestError(f"{folder}: cannot be read: {error.strerror}") from error
    if len(names) < 2:
        raise RequestError(f"{folder}: holds {len(names)} class folders; a classifier needs at least 2")
    if "label" in names:
        raise RequestError(f"{folder / 'label'}: no class can be called 'label', which is a column of the tables")
    return names


def _list_files(base: Path, split: str, names: list[str]) -> list[_File]:
    files = []
    for label, name in enumerate(names):
        found = sorted(_walk(base / split / name, f"{split}/{name}", label, ()), key=lambda file: file.path)
        if not found:
            raise RequestError(f"{base / split / name}: the class folder is empty")
        files += found
    return files


def _walk(folder: Path, relative: str, label: int, above: tuple[tuple[int, int], ...]) -> list[_File]:
    """The files in a folder and those below it. ``above``: the folders that it lies in, to notice a loop of links."""
    found = []
    path = str(folder)
    try:
        here = folder.stat()
        if (here.st_dev, here.st_ino) in above:
            raise RequestError(f"{folder}: is a link to a folder that it lies in")
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in _NOT_IMAGES:
                    continue
                path = entry.path
                inner = f"{relative}/{entry.name}"
                if entry.is_dir():
                    found += _walk(Path(path), inner, label, (*above, (here.st_dev, here.st_ino)))
                    continue
                status = entry.stat()
                if not stat.S_ISREG(status.st_mode):  # a pipe would never end
                    raise RequestError(f"{path}: is not a regular file; move it out of the folder")
                found.append(_File(inner, label, status.st_size, status.st_mtime_ns))
    except OSError as error:  # a link to nowhere, a folder that is not readable
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error
    return found


def _decode(base: Path, files: list[_File], size: int, split: str) -> Split:
    paths = [base / file.path for file in files]
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    # Processes, because small images spend most of their time in Python, where threads wait for each other. A few
    # files are read here and now: starting processes takes longer.
    workers = 1 if len(files) < 4 * _CHUNK else -1
    decoded = Parallel(n_jobs=workers, return_as="generator")(delayed(_read_all)(chunk, size) for chunk in chunks)
    images = room_for((len(files), size, size, 3), split)
    done = 0
    with tqdm(total=len(files), desc=f"decoding {split}", unit=" images", disable=None, leave=False) as bar:
        for part in decoded:
            images[done : done + len(part)] = part
            done += len(part)
            bar.update(len(part))
    labels = np.array([file.label for file in files], np.int64)
    return Split(images, labels, np.array([_printable(file.path) for file in files]))


def _printable(name: str) -> str:
    """A file's name as text that a CSV can hold and a terminal can show, also where it is not valid UTF-8."""
    return printable(name.encode("utf-8", "backslashreplace").decode())


def _read_all(paths: list[Path], size: int) -> NDArray[np.uint8]:
    return np.stack([_read(path, size) for path in paths])


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Without Pillow's warnings: of large images, which are refused, and of transparency, which is dropped."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@cache
def _formats() -> list[str]:
    """The formats of ``_FORMATS`` that the installed Pillow can read."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _read(path: Path, size: int) -> NDArray[np.uint8]:
    """One image as (size, size, 3) uint8: upright, gray to RGB, transparency dropped."""
    try:
        with _quiet_pillow(), Image.open(path, formats=_formats()) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise RequestError(f"{path}: {image.width}x{image.height} pixels are more than {_MAX_PIXELS:,}")
            if image.mode.startswith(("I", "F")):
                raise RequestError(f"{path}: has more than 8 bits a channel; convert it to 8 bits first")
            image.draft("RGB", (size, size))  # lets the JPEG decoder skip detail that scaling would drop
            upright = ImageOps.exif_transpose(image)
            return np.asarray(fit(upright.convert("RGB"), size))
    except RequestError:
        raise
    except Image.DecompressionBombError as error:
        raise RequestError(f"{path}: {error}") from error
    except UnidentifiedImageError as error:
        raise RequestError(
            f"{path}: not an image that can be read ({', '.join(_formats())}); move it out of the folder"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise RequestError(f"{path}: damaged image: {error}") from error
