"""Lists image files of common formats, and decodes them in parallel to one size."""

import logging
import os
import re
import stat
import warnings
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

from cifar_exp.data.dataset import Split
from cifar_exp.data.sources.resize import fit, room_for
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.console import shows_bars
from cifar_exp.safe_io.untrusted import printable

log = logging.getLogger(__name__)

DECODER_VERSION = 2  # part of the cache key; incremented when decoding changes

_MAX_PIXELS = 64_000_000  # 192 MB decoded; 50,000 x 50,000 would take 7.5 GB
_CHUNK = 500  # images that one process decodes at a time
_MOST_NAMED = 10  # files that an error lists
# Other decoders of Pillow are not used: one of them starts another program (Ghostscript).
_FORMATS = ("JPEG", "JPEG2000", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "TGA")
# Made by file managers, archives and network storage, in any case; as are names with a leading dot.
_NOT_IMAGES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "__macosx", "$recycle.bin"}
_SIXTEEN_BITS = re.compile(r"'(I|L|LA|RGB|RGBA|RGBX|RGBa|CMYK);16[BLN]?'")  # Pillow's names of raw pixels
_TRANSPARENT, _DEEP = "transparency composited on white", "16 bits a channel scaled to 8"


class ImageFile(NamedTuple):
    """An image file: path relative to the root, index of its class, size and modification time.

    A plain tuple, as listing 60,000 files takes most of the time to load a cached data set.
    """

    path: str
    label: int
    size: int
    changed_ns: int


def is_hidden(name: str) -> bool:
    """Whether a file or folder with this name was made by another program and is no image."""
    return name.startswith(".") or name.lower() in _NOT_IMAGES


def image_file(path: str, relative: str, label: int, status: os.stat_result) -> ImageFile:
    """A listed file."""
    if not stat.S_ISREG(status.st_mode):
        raise RequestError(f"{path}: is not a regular file; remove it from the folder")
    return ImageFile(relative, label, status.st_size, status.st_mtime_ns)


def list_folder(folder: Path, relative: str, label: int, above: tuple[tuple[int, int], ...] = ()) -> list[ImageFile]:
    """The files in a folder and below it, in no particular order.

    ``relative`` is its path relative to the root; ``above`` are its parent folders, to detect loops of links.

    Raises:
        RequestError: a folder or file cannot be read, or links form a loop.
    """
    found = []
    path = str(folder)
    try:
        here = folder.stat()
        if (here.st_dev, here.st_ino) in above:
            raise RequestError(f"{folder}: is a link to one of its parent folders")
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                path = entry.path
                inner = f"{relative}/{entry.name}"
                if entry.is_dir():
                    found += list_folder(Path(path), inner, label, (*above, (here.st_dev, here.st_ino)))
                else:
                    found.append(image_file(path, inner, label, entry.stat()))
    except OSError as error:  # a broken link, a folder without permission
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error
    return found


def decode(base: Path, train: list[ImageFile], test: list[ImageFile], size: int) -> tuple[Split, Split]:
    """The files of both splits as (N, size, size, 3) images.

    Raises:
        RequestError: lists up to ten files that are not readable images, and their number.
    """
    problems: list[str] = []
    seen: Counter[str] = Counter()
    splits = []
    for name, files in (("train", train), ("test", test)):
        images, of_split, seen_in_split = read_images([base / file.path for file in files], size, name)
        problems += of_split.values()
        seen += seen_in_split
        labels = np.array([file.label for file in files], np.int64)
        splits.append(Split(images, labels, np.array([as_text(file.path) for file in files])))
    if problems:
        more = f"; and {len(problems) - _MOST_NAMED:,} more" if len(problems) > _MOST_NAMED else ""
        several = f"{len(problems):,} files cannot be used: " if len(problems) > 1 else ""
        raise RequestError(f"{several}{'; '.join(problems[:_MOST_NAMED])}{more}; remove such files from the folder")
    for what, count in seen.items():
        log.info("%s of %s images: %s", f"{count:,}", f"{len(train) + len(test):,}", what)
    return splits[0], splits[1]


def read_images(paths: list[Path], size: int, what: str) -> tuple[NDArray[np.uint8], dict[int, str], Counter[str]]:
    """Read image files, many of them in parallel.

    ``what`` they are is for the progress bar.

    Returns:
        (N, size, size, 3) images, black if the file cannot be read; by position, why it cannot; how many images were
        changed in which way.
    """
    images = room_for((len(paths), size, size, 3), what)
    # Processes, as small images are mostly decoded in Python code, where threads block each other. For few files,
    # starting processes takes longer than decoding.
    parallel = Parallel(1 if len(paths) < 4 * _CHUNK else -1, batch_size=_CHUNK, return_as="generator")
    decoded = parallel(delayed(_read)(path, size) for path in paths)
    problems: dict[int, str] = {}
    seen: Counter[str] = Counter()
    bar = tqdm(decoded, f"decoding {what}", len(paths), unit=" images", disable=not shows_bars(), leave=False)
    for place, result in enumerate(bar):
        if isinstance(result, str):
            images[place], problems[place] = 0, result
        else:
            images[place], conversions = result
            seen.update(conversions)
    return images, problems, seen


def as_text(name: str) -> str:
    """A file name as printable text, also if it is not valid UTF-8."""
    return printable(name.encode("utf-8", "backslashreplace").decode())


def has_image_suffix(name: str) -> bool:
    """Whether a file's name ends like those of the image formats that can be read."""
    _formats()  # makes Pillow know its suffixes
    return Image.registered_extensions().get(os.path.splitext(name)[1].lower()) in _FORMATS


@cache
def _formats() -> list[str]:
    """The formats of ``_FORMATS`` that the installed Pillow can read."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _read(path: Path, size: int) -> tuple[NDArray[np.uint8], list[str]] | str:
    """One image as (size, size, 3) uint8, upright, gray to RGB, transparency on white; and what was converted.

    A text instead says why it cannot be read.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_formats()) as image:
            if image.width * image.height > _MAX_PIXELS:
                return f"{path}: {image.width}x{image.height} pixels are more than {_MAX_PIXELS:,}"
            deep = _has_sixteen_bits(image)
            image.draft("RGB", (size, size))  # the JPEG decoder skips detail that scaling would remove
            image.load()
            with suppress(Exception):  # damaged EXIF data: struct.error, SyntaxError and others
                ImageOps.exif_transpose(image, in_place=True)
            pixels: Image.Image = image
            if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
                # The upper 8 bits of gray, as Pillow takes them of colours.
                pixels = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
            elif image.mode in ("I", "F"):
                return f"{path}: has more than 16 bits a channel; convert it to 8 bits first"
            flat, transparent = _on_white(pixels)
            return np.asarray(fit(flat, size)), [_DEEP] * deep + [_TRANSPARENT] * transparent
    except Image.DecompressionBombError as error:
        return f"{path}: {error}"
    except UnidentifiedImageError:
        return f"{path}: not a readable image"
    except Exception as error:  # decoders raise OSError, SyntaxError, RuntimeError, struct.error and others
        return f"{path}: damaged image: {' '.join(str(error).split())}"


def _has_sixteen_bits(image: Image.Image) -> bool:
    """Whether the file has 16 bits a channel; Pillow silently keeps the upper 8 of colour images."""
    raw_modes = repr([arguments for *_, arguments in getattr(image, "tile", ())])
    return image.mode.startswith("I;16") or _SIXTEEN_BITS.search(raw_modes) is not None


def _on_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """The image in RGB, and whether any of it was transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB"), False
    layers = image.convert("RGBA")
    is_opaque = layers.getchannel("A").getextrema()[0] == 255
    return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB"), not is_opaque
