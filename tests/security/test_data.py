"""Images from someone else: no other program decodes them, nothing is waited for, and memory has a limit."""

import os
from pathlib import Path

import pytest
from PIL import Image

from cifar_exp import data
from cifar_exp.data.dataset import Dataset
from cifar_exp.errors import RequestError


def load_tree(tree: Path, cache: Path, image_size: int = 32) -> Dataset:
    return data.image_folder(root=str(tree), cache=str(cache), image_size=image_size)


def test_a_format_that_needs_another_program_is_refused(tmp_path, image_tree):
    path = image_tree / "train" / "cat" / "x.png"
    Image.new("RGB", (32, 32)).save(path, format="EPS")
    with pytest.raises(RequestError, match="not a readable image"):
        load_tree(image_tree, tmp_path / "cache")


def test_a_pipe_among_the_images_is_refused(tmp_path, image_tree):
    os.mkfifo(image_tree / "train" / "cat" / "x.png")
    with pytest.raises(RequestError, match=r"x\.png: is not a regular file"):
        load_tree(image_tree, tmp_path / "cache")


def test_a_loop_of_links_among_the_images_is_named(tmp_path, image_tree):
    (image_tree / "train" / "cat" / "again").symlink_to("..")
    with pytest.raises(RequestError, match=r"cat: is a link to one of its parent folders"):
        load_tree(image_tree, tmp_path / "cache")


def test_images_that_exceed_the_memory_are_refused_unread(tmp_path, image_tree, monkeypatch):
    monkeypatch.setattr("cifar_exp.data.sources.resize.memory_bytes", lambda: 10_000_000)
    with pytest.raises(RequestError, match=r"24 train images of 1024x1024 take 0\.1 GB"):
        load_tree(image_tree, tmp_path / "cache", image_size=1024)


def test_class_names_that_steer_a_terminal_are_shown_as_escapes(tmp_path, image_tree):
    for split in ("train", "test"):
        (image_tree / split / "dog").rename(image_tree / split / "dog\x1b[2J\n")
    assert load_tree(image_tree, tmp_path / "cache").class_names == ("cat", r"dog\x1b[2J\n")
