"""Folders of images: ``train/CLASS/*`` beside ``test/CLASS/*`` or ``val/CLASS/*``, or one folder of classes."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cifar_exp.data.dataset import Dataset, make_dataset
from cifar_exp.data.sources.cache import cache_folder, decode_once
from cifar_exp.data.sources.image_files import DECODER_VERSION, ImageFile, as_text, decode, is_hidden, list_folder
from cifar_exp.data.split import divide
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.plural import plural

log = logging.getLogger(__name__)

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")  # the first that holds class folders is used
_EXPECTED = "expected train/CLASS/* with test/CLASS/* or val/CLASS/*, or CLASS/* (split by data.test_fraction)"


def load_image_folder(
    *,
    root: str | None,
    cache: str | None,
    image_size: int,
    test_fraction: float = 0.2,
    test_seed: int = 0,
    class_names: tuple[str, ...] | None = None,
) -> Dataset:
    """Load the images below ``root``, ordered by class name, then by path. The keys are those of ``ImageFolderConfig``.

    The decoded images are cached by the paths, sizes and modification times of all files, so a later start only lists
    the files.

    ``class_names`` are the classes of a trained network that is evaluated. Then a test split with some of them is
    enough; without a folder for it, all images are the test split. The training split is the same as the test split.

    Raises:
        RequestError: the layout is unknown, train and test have different classes, or a file is not a readable image.
    """
    if root is None:
        raise RequestError("data=image_folder: set data.root=FOLDER (train/CLASS/* and test/CLASS/*, or CLASS/*)")
    base = Path(root)
    train_folder, test_folder = _layout(base, evaluated=class_names is not None)
    if class_names is not None:
        folder = test_folder or train_folder
        if test_folder is None:
            log.info("All images below %s are evaluated", base)
        names = _folders(base / folder)
        check_known(base / folder, names, class_names)
        files = _list(base, folder, names, class_names)
        return load_files(base, files, files, class_names, "image_folder", cache, image_size)
    names = _folders(base / train_folder)
    if len(names) < 2:
        found = plural(len(names), "class folder")
        raise RequestError(f"{base / train_folder}: holds {found}; a classifier needs at least 2")
    train = _list(base, train_folder, names, names)
    if test_folder is None:
        train, test = split_files(train, names, test_fraction=test_fraction, test_seed=test_seed)
    elif one_sided := sorted(set(names) ^ set(_folders(base / test_folder))):
        both = f"{train_folder}/ and {test_folder}/ must hold the same class folders"
        raise RequestError(f"{base}: {both}; only one of them holds {_some(one_sided)}")
    else:
        test = _list(base, test_folder, names, names)
    return load_files(base, train, test, tuple(names), "image_folder", cache, image_size)


def load_files(
    base: Path,
    train: list[ImageFile],
    test: list[ImageFile],
    names: tuple[str, ...],
    kind: str,
    cache: str | None,
    image_size: int,
) -> Dataset:
    """The listed files as a data set, decoded once.

    Raises:
        RequestError: a file is not a readable image, or a name not usable as a class.
    """
    content = (DECODER_VERSION, str(base.resolve()), image_size, names, train, test)
    key = hashlib.sha256(repr(content).encode("utf-8", "surrogateescape")).hexdigest()

    def decoded() -> Dataset:
        splits = decode(base, train, test, image_size)
        try:
            return make_dataset(*splits, tuple(map(as_text, names)))
        except ValueError as error:
            raise RequestError(f"{base}: {error}") from error

    return decode_once(cache_folder(cache), kind, key, decoded)


def split_files(
    files: list[ImageFile], names: Sequence[str], *, test_fraction: float = 0.2, test_seed: int = 0
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Training and test files, stratified by class.

    Raises:
        RequestError: the fraction leaves a class without training images, or a split without any.
    """
    labels = np.array([file.label for file in files], np.int64)
    kept, held = divide(labels, test_fraction, test_seed, tuple(names), "data.test_fraction")
    log.info("No test split: %s of %s images are held out for it (data.test_fraction)", len(held), len(files))
    return [files[place] for place in kept], [files[place] for place in held]


def check_known(where: Path, names: Sequence[str], class_names: tuple[str, ...]) -> None:
    """Refuse classes that a trained network does not have."""
    if unknown := [name for name in names if as_text(name) not in class_names]:
        raise RequestError(
            f"{where}: the run's classes are not the data's: the network has no {_some(unknown)}; "
            f"it has {_some(class_names)}"
        )


def _layout(base: Path, *, evaluated: bool) -> tuple[str, str | None]:
    """The folders of training and test classes, relative to the root; "." and None if the root holds the classes."""
    if not base.exists():
        raise RequestError(f"data.root={base}: no such folder; {_EXPECTED}")
    folders = _folders(base)
    named = {name.lower(): name for name in folders}
    holding = [named[name] for name in (*_TRAIN, *_TEST) if name in named and _folders(base / named[name])]
    train = [name for name in holding if name.lower() in _TRAIN]
    test = [name for name in holding if name.lower() in _TEST]
    if test and (train or evaluated):
        if len(test) > 1:
            log.info("%s: %s/ is the test split; %s not used", base, test[0], ", ".join(f"{x}/" for x in test[1:]))
        return (train or test)[0], test[0]
    splits = [name for name in named if name in (*_TRAIN, *_TEST)]  # two of these without class folders
    if holding or len(splits) > 1 or len(folders) < (1 if evaluated else 2):
        found = _some([f"{name}/" for name in folders]) or "no folder"
        raise RequestError(f"data.root={base}: {_EXPECTED}; found {found}")
    return ".", None


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir())
    except OSError as error:
        raise RequestError(f"{folder}: cannot be read: {error.strerror}") from error


def _list(base: Path, folder: str, names: list[str], class_names: Sequence[str]) -> list[ImageFile]:
    """The files of all classes in a folder; a label is an index into ``class_names``."""
    files: list[ImageFile] = []
    for name in names:
        relative = name if folder == "." else f"{folder}/{name}"
        label = class_names.index(name if class_names is names else as_text(name))
        found = sorted(list_folder(base / relative, relative, label), key=lambda file: file.path)
        if not found:
            raise RequestError(f"{base / relative}: the class folder is empty")
        files += found
    return files


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(as_text, names[:5])) + (f", ... ({len(names)})" if len(names) > 5 else "")
