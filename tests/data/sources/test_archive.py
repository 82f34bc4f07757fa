"""CIFAR's archives: pixels by the documented format, and only the published files are unpickled."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cifar_format import CIFAR10_FOLDER, CIFAR10_NAMES, CIFAR10_URL, Archive, cifar10_members, publish, python2_pickle
from cifar_format import write_archive as write
from PIL import Image
from torchvision.transforms import functional

from cifar_exp import data
from cifar_exp.data.dataset import Dataset
from cifar_exp.data.sources import cifar
from cifar_exp.errors import RequestError

Load = Callable[..., Dataset]


@pytest.fixture
def load(tmp_path: Path, cifar10_archive: Archive) -> Load:
    """``cifar10`` from the test's archive, with an empty cache folder."""
    options = {"root": str(cifar10_archive.path), "sha256": cifar10_archive.sha256, "cache": str(tmp_path / "cache")}
    return partial(data.cifar10, url=CIFAR10_URL, image_size=32, **options)


def unpack(members: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in members.items():
        (folder / name).write_bytes(content)
    return folder


def test_pixels_have_their_row_column_and_channel(
    load: Load, cifar10_archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((1, 3072), np.uint8)
    pixels[0, 2 * 32 + 5] = 200  # red plane, row 2, column 5
    pixels[0, 1024 + 31] = 100  # green plane, row 0, column 31
    pixels[0, 2048 + 31 * 32] = 50  # blue plane, row 31, column 0
    members = cifar10_archive.members | cifar10_members({"test_batch": pixels}, {"test_batch": [7]})
    publish(monkeypatch, "cifar10", cifar10_archive.sha256, members)

    test = load(root=str(unpack(members, tmp_path / "batches"))).test

    assert test.images.shape == (1, 32, 32, 3)
    assert test.images[0, 2, 5].tolist() == [200, 0, 0]
    assert test.images[0, 0, 31].tolist() == [0, 100, 0]
    assert test.images[0, 31, 0].tolist() == [0, 0, 50]
    assert np.count_nonzero(test.images) == 3
    assert test.labels.tolist() == [7]


def test_batches_keep_their_order(load: Load, cifar10_archive: Archive) -> None:
    dataset = load()
    assert dataset.class_names == tuple(CIFAR10_NAMES)
    assert dataset.train.images.shape == (100, 32, 32, 3)
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.labels.tolist() == [row % 10 for row in range(20)] * 5
    for position in (0, 19, 20, 57, 99):
        batch, row = f"data_batch_{position // 20 + 1}", position % 20
        assert dataset.train.sources[position] == f"{batch}[{row}]"
        assert dataset.train.images[position, 3, 4, 1] == cifar10_archive.data[batch][row, 1024 + 3 * 32 + 4]


def test_archive_file_folder_and_unpacked_batches_are_the_same_data(
    load: Load, cifar10_archive: Archive, tmp_path: Path
) -> None:
    unpacked = unpack(cifar10_archive.members, tmp_path / "unpacked" / CIFAR10_FOLDER)
    roots = {
        "archive": cifar10_archive.path,
        "folder with the archive": cifar10_archive.path.parent,
        "batches": unpacked,
        "folder with the batches": unpacked.parent,
    }
    fingerprints = {load(root=str(root), cache=str(tmp_path / name)).fingerprint for name, root in roots.items()}
    assert len(fingerprints) == 1


def test_second_start_reads_the_cache(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load()
    monkeypatch.setattr(cifar, "_decode", lambda *_: pytest.fail("decoded again"))
    second = load()
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.train.images, first.train.images)


def test_another_size_is_resized_as_torchvision_does(load: Load, cifar10_archive: Archive) -> None:
    dataset = load(image_size=16)
    original = cifar10_archive.data["test_batch"][3].reshape(3, 32, 32).transpose(1, 2, 0)
    expected = np.asarray(functional.resize(Image.fromarray(original), [16, 16]))
    np.testing.assert_array_equal(dataset.test.images[3], expected)


def test_cifar100_has_its_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
    batch = {"data": pixels, "fine_labels": [99, 0, 41], "coarse_labels": [1, 2, 3], "filenames": ["a", "b", "c"]}
    names = [f"class {number}" for number in range(100)]
    members = {
        "meta": python2_pickle({"fine_label_names": names, "coarse_label_names": ["x"] * 20}),
        "test": python2_pickle(batch),
        "train": python2_pickle(batch),
    }
    path = tmp_path / "cifar-100-python.tar.gz"
    sha256 = write(path, "cifar-100-python", members)
    publish(monkeypatch, "cifar100", sha256, members)
    dataset = data.cifar100(
        root=str(tmp_path), url=f"https://x/{path.name}", sha256=sha256, cache=str(tmp_path / "cache"), image_size=32
    )
    assert dataset.class_names == tuple(names)
    assert dataset.train.labels.tolist() == [99, 0, 41]
    assert dataset.test.images[2, 5, 6, 2] == pixels[2, 2048 + 5 * 32 + 6]


@pytest.mark.parametrize("change", ["one byte", "truncated", "link to a device"])
def test_another_archive_is_refused_with_both_digests(load: Load, cifar10_archive: Archive, change: str) -> None:
    content = cifar10_archive.path.read_bytes()
    cifar10_archive.path.unlink()
    if change == "link to a device":
        cifar10_archive.path.symlink_to("/dev/zero")
    else:
        cifar10_archive.path.write_bytes(content[:-1] + (b"?" if change == "one byte" else b""))
    with pytest.raises(RequestError) as caught:
        load()
    assert str(cifar10_archive.path) in str(caught.value)
    assert change == "link to a device" or f"expected {cifar10_archive.sha256}" in str(caught.value)


def test_a_config_cannot_name_another_archive_by_its_digest(load: Load, cifar10_archive: Archive) -> None:
    with pytest.raises(
        RequestError, match=f"data.sha256=abab.*: must be {cifar10_archive.sha256}, the published archive"
    ):
        load(sha256="ab" * 32)


@pytest.mark.parametrize("member", ["batches.meta", "data_batch_2", "test_batch"])
def test_a_changed_batch_is_named_and_not_unpickled(
    load: Load, cifar10_archive: Archive, tmp_path: Path, member: str
) -> None:
    trace = tmp_path / "it-ran"
    evil = f"cos\nsystem\n(S{'touch ' + str(trace)!r}\ntR.".encode()
    batches = unpack(cifar10_archive.members | {member: evil}, tmp_path / "evil")
    with pytest.raises(RequestError, match=f"{batches / member}: its MD5 is"):
        load(root=str(batches))
    assert not trace.exists()


def test_a_missing_batch_is_named(load: Load, cifar10_archive: Archive, tmp_path: Path) -> None:
    batches = unpack(
        {k: v for k, v in cifar10_archive.members.items() if k != "data_batch_3"}, tmp_path / CIFAR10_FOLDER
    )
    for root in (batches, batches.parent):
        with pytest.raises(RequestError, match=f"{batches} is incomplete, without data_batch_3$"):
            load(root=str(root))


def test_a_root_without_archive_and_batches_is_refused(load: Load, tmp_path: Path, image_tree: Path) -> None:
    problem = f"is neither the archive nor a folder with cifar-10-python.tar.gz or {CIFAR10_FOLDER}"
    for root, hint in ((tmp_path / "nowhere", ""), (tmp_path, ""), (image_tree, ".*data=image_folder")):
        with pytest.raises(RequestError, match=f"data.root={root}: {problem}{hint}$"):
            load(root=str(root))
