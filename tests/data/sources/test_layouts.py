"""Layouts of image folders and tables: the accepted ones, and the messages about others."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cifar_exp import data
from cifar_exp.data.dataset import Dataset
from cifar_exp.errors import RequestError

Load = Callable[..., Dataset]


@pytest.fixture
def load(image_tree: Path, tmp_path: Path) -> Load:
    return partial(data.image_folder, root=str(image_tree), cache=str(tmp_path / "cache"), image_size=32)


@pytest.fixture
def load_table(image_tree: Path, tmp_path: Path) -> Callable[..., Dataset]:
    """Loads the images of a table that lies in ``image_tree``."""

    def loaded(text: str, **options: object) -> Dataset:
        (image_tree / "labels.csv").write_text(text, encoding="utf-8")
        options = {"root": None, "cache": str(tmp_path / "cache"), "image_size": 32} | options
        return data.image_csv(csv_file=str(image_tree / "labels.csv"), **options)

    return loaded


@pytest.mark.parametrize(
    ("train", "test"), [("train", "val"), ("Training", "Testing"), ("train", "valid"), ("TRAIN", "validation")]
)
def test_other_names_of_the_splits(load: Load, image_tree: Path, train: str, test: str) -> None:
    expected = load()
    (image_tree / "train").rename(image_tree / "x")
    (image_tree / "x").rename(image_tree / train)
    (image_tree / "test").rename(image_tree / test)
    made = load()
    assert made.fingerprint == expected.fingerprint
    assert made.test.sources[0] == f"{test}/cat/00.png"


def test_val_is_the_test_split_if_test_has_no_classes(load: Load, image_tree: Path) -> None:
    expected = load()
    (image_tree / "test").rename(image_tree / "val")
    (image_tree / "test").mkdir()
    shutil.copy(image_tree / "val" / "cat" / "00.png", image_tree / "test" / "unlabelled.png")
    assert load().fingerprint == expected.fingerprint


def test_one_folder_of_classes_is_split(load: Load, image_tree: Path) -> None:
    root = str(image_tree / "train")
    made = load(root=root, test_fraction=0.25)
    assert (len(made.train), len(made.test)) == (18, 6)
    assert np.bincount(made.test.labels).tolist() == [3, 3]
    assert not set(made.train.sources) & set(made.test.sources)
    assert load(root=root, test_fraction=0.25, cache=str(image_tree.parent / "b")).fingerprint == made.fingerprint
    assert load(root=root, test_fraction=0.25, test_seed=1).fingerprint != made.fingerprint
    with pytest.raises(RequestError, match=r"data\.test_fraction=0\.01: of 24 training images that is 0"):
        load(root=root, test_fraction=0.01)


def test_a_class_may_be_called_train(load: Load, image_tree: Path) -> None:
    (image_tree / "train" / "cat").rename(image_tree / "train" / "train")
    assert load(root=str(image_tree / "train")).class_names == ("dog", "train")


@pytest.mark.parametrize(
    ("remove", "found"),
    [
        ((".",), "no such folder"),
        (("test",), "found train/$"),
        (("train",), "found test/$"),
        (("train", "test"), "found no folder$"),
        (("train/cat", "train/dog", "test/cat", "test/dog"), "found test/, train/$"),
    ],
)
def test_another_layout_is_described(load: Load, image_tree: Path, remove: tuple[str, ...], found: str) -> None:
    for name in remove:
        shutil.rmtree(image_tree / name)
    with pytest.raises(RequestError, match=f"data.root={image_tree}: .*{found}") as caught:
        load()
    assert "expected train/CLASS/* with test/CLASS/* or val/CLASS/*, or CLASS/*" in str(caught.value)


def test_a_folder_too_high(load: Load, image_tree: Path) -> None:
    with pytest.raises(RequestError, match=r"found .*tree/$"):
        load(root=str(image_tree.parent))


# --- for a trained network -----------------------------------------------------------------------------
NAMES = ("bird", "cat", "dog")


@pytest.mark.parametrize("folder", [".", "test"])
def test_some_classes_are_enough_to_evaluate(load: Load, image_tree: Path, folder: str) -> None:
    shutil.rmtree(image_tree / "train")
    shutil.rmtree(image_tree / "test" / "cat")
    made = load(root=str(image_tree / folder), class_names=NAMES)
    assert (made.class_names, made.test.labels.tolist()) == (NAMES, [2] * 4)


def test_unknown_classes_are_named(load: Load, image_tree: Path) -> None:
    with pytest.raises(RequestError, match="the network has no dog; it has cat, emu"):
        load(class_names=("cat", "emu"))


# --- tables --------------------------------------------------------------------------------------------
ROWS = "".join(f"train/{name}/{n:02}.png,{name}\n" for n in range(10) for name in ("cat", "dog"))


def test_a_table_is_split_or_has_a_column_of_the_split(load_table: Callable[..., Dataset]) -> None:
    made = load_table("file,label\n" + ROWS)
    assert (len(made.train), np.bincount(made.test.labels).tolist()) == (16, [2, 2])
    named = load_table("\ufeffpath,what,split\r\ntrain/dog/00.png,hund,train\r\ntrain/cat/01.png,katze,train\r\n"
                       "test/cat/00.png,katze,val\r\n", file_column="path", label_column="what")  # fmt: skip
    assert named.class_names == ("hund", "katze")
    assert named.train.sources.tolist() == ["train/dog/00.png", "train/cat/01.png"]
    assert named.test.labels.tolist() == [1]
    assert load_table("file,label\ntest/cat/00.png,cat\n", class_names=NAMES).test.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,breed\nx,y\n", r"has no column 'file' \(data.file_column\); its columns are id, breed"),
        ("", "its columns are none"),
        ("file,label\n", "has no rows"),
        ("file,label\ntrain/cat/00.png\n", "line 2: needs a file, a label"),
        ("file,label,split\ntrain/cat/00.png,cat,tset\n", "line 2: needs a file, a label and a split of train, test"),
        ("file,label\n../secret.png,cat\ntrain/dog/00.png,dog\n", r"\.\./secret\.png: is not in the folder"),
        ("file,label\n/etc/passwd,cat\ntrain/dog/00.png,dog\n", "/etc/passwd: is not in the folder"),
        ("file,label\nnone.png,cat\ntrain/dog/00.png,dog\n", "none.png: .* cannot be read: No such file"),
        ("file,label\ntrain/cat/00.png,cat\n", "has 1 different label;"),
        ('file,label\n"train/cat/00.png,cat\n', "cannot be read: "),
        ("file,label\ntrain/cat,cat\ntrain/dog/00.png,dog\n", "is not a regular file"),
    ],
)
def test_a_wrong_table(load_table: Callable[..., Dataset], text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        load_table(text)
    assert "labels.csv" in str(caught.value) or "regular" in str(caught.value)


def test_no_table() -> None:
    with pytest.raises(RequestError, match=r"data\.csv_file=FILE"):
        data.image_csv(csv_file=None, root=None, cache=None, image_size=32)
    with pytest.raises(RequestError, match=r"data\.csv_file=nowhere\.csv: cannot be read"):
        data.image_csv(csv_file="nowhere.csv", root=None, cache=None, image_size=32)
