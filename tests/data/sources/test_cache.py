"""The cache of decoded data: read if it is valid, written again if damaged, skipped if its folder is unusable."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_exp import data
from cifar_exp.data.dataset import Dataset
from cifar_exp.data.sources import image_files
from cifar_exp.data.sources.cache import cache_folder, decode_once

Load = Callable[..., Dataset]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def load(image_tree: Path, cache: Path) -> Load:
    return partial(data.image_folder, root=str(image_tree), cache=str(cache), image_size=32)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The files that were opened and decoded so far."""
    files: list[Path] = []
    read = image_files._read

    def recording(path: Path, *arguments: object) -> np.ndarray:
        files.append(path)
        return read(path, *arguments)

    monkeypatch.setattr(image_files, "_read", recording)
    return files


def entry_of(cache: Path) -> Path:
    (entry,) = (cache / "decoded").glob("*.npz")
    return entry


def test_second_start_decodes_nothing(load: Load, decoded: list[Path]) -> None:
    first = load()
    assert len(decoded) == 32
    second = load()
    assert len(decoded) == 32
    assert second.fingerprint == first.fingerprint
    assert second.class_names == first.class_names
    for before, after in ((first.train, second.train), (first.test, second.test)):
        np.testing.assert_array_equal(after.images, before.images)
        np.testing.assert_array_equal(after.labels, before.labels)
        np.testing.assert_array_equal(after.sources, before.sources)


def test_simultaneous_starts_decode_once(cache: Path, load: Load) -> None:
    dataset = load()
    everybody, calls = threading.Barrier(4), []

    def decode() -> Dataset:
        calls.append(1)
        time.sleep(0.3)  # time enough for the others to get to the lock
        return dataset

    def start(_: int) -> str:
        everybody.wait()
        return decode_once(cache, "new", "key", decode).fingerprint

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, range(4))) == [dataset.fingerprint] * 4
    assert len(calls) == 1


def test_changed_file_is_decoded_again(load: Load, image_tree: Path) -> None:
    first = load()
    path = image_tree / "train" / "cat" / "00.png"
    Image.new("RGB", (32, 32), "orange").save(path)
    second = load()
    assert second.fingerprint != first.fingerprint
    assert second.train.images[0, 0, 0].tolist() == [255, 165, 0]


def test_touched_file_is_decoded_again_to_the_same_fingerprint(
    load: Load, image_tree: Path, decoded: list[Path]
) -> None:
    first = load()
    os.utime(image_tree / "train" / "cat" / "00.png", (1, 1))
    assert load().fingerprint == first.fingerprint
    assert len(decoded) == 64


def test_added_and_removed_files_are_noticed(load: Load, image_tree: Path) -> None:
    assert len(load().test) == 8
    shutil.copy(image_tree / "test" / "cat" / "00.png", image_tree / "test" / "cat" / "more.png")
    assert len(load().test) == 9
    (image_tree / "test" / "dog" / "00.png").unlink()
    assert len(load().test) == 8


def test_another_size_is_another_entry(load: Load) -> None:
    assert load().train.images.shape[1:] == (32, 32, 3)
    assert load(image_size=8).train.images.shape[1:] == (8, 8, 3)


def test_moved_tree_has_the_same_fingerprint(load: Load, image_tree: Path) -> None:
    first = load()
    moved = image_tree.rename(image_tree.with_name("elsewhere"))
    assert load(root=str(moved)).fingerprint == first.fingerprint


def test_renamed_class_is_other_data(load: Load, image_tree: Path) -> None:
    first = load()
    for split in ("train", "test"):
        (image_tree / split / "dog").rename(image_tree / split / "hound")
    assert load().fingerprint != first.fingerprint


def flip(path: Path, part: bytes, after: int = 0) -> None:
    """Change one bit ``after`` bytes behind the first occurrence of ``part``."""
    content = bytearray(path.read_bytes())
    content[content.index(part) + after] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda entry: os.truncate(entry, 5000),
    "empty": lambda entry: os.truncate(entry, 0),
    "no array": lambda entry: entry.write_bytes(b"x" * 500),
    "a bit of an image": lambda entry: flip(entry, b"\n", 5000),
    "a bit of a header": lambda entry: flip(entry, b"'descr'"),
    "a bit of a source": lambda entry: flip(entry, "train/cat".encode("utf-32-le")),
    "a bit of a class name": lambda entry: flip(entry, "dog".encode("utf-32-le")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_decoded_again(
    load: Load, cache: Path, decoded: list[Path], damage: Callable[[Path], object]
) -> None:
    first = load()
    damage(entry_of(cache))
    second = load()
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.train.images, first.train.images)
    assert len(decoded) == 64
    load()
    assert len(decoded) == 64


def test_failed_decoding_leaves_nothing_behind(load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", lambda *arguments: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        dataset = load()
    assert len(dataset.train) == 24
    assert [path for path in (cache / "decoded").iterdir() if path.suffix != ".lock"] == []
    assert load().fingerprint == dataset.fingerprint
    assert entry_of(cache)


@pytest.mark.parametrize("in_the_way", ["cache", "cache/decoded"])
def test_an_unusable_cache_folder_is_skipped(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, decoded: list[Path], in_the_way: str
) -> None:
    path = tmp_path / in_the_way
    path.parent.mkdir(exist_ok=True)
    path.write_text("a file")
    assert load().fingerprint == load().fingerprint
    assert len(decoded) == 64
    assert f"The cache folder {tmp_path / 'cache'} cannot be used" in caplog.text
    assert "damaged" not in caplog.text
    assert path.read_text() == "a file"


def test_cache_folder_by_config_and_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("CIFAR_EXP_CACHE", "~/mine")
    assert cache_folder("/named") == Path("/named")
    assert cache_folder(None) == tmp_path / "mine"
    monkeypatch.delenv("CIFAR_EXP_CACHE")
    assert cache_folder(None) == Path("/xdg/cifar_exp")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(None) == tmp_path / ".cache" / "cifar_exp"
