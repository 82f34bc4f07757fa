"""CIFAR's own archives: pixels land where the format says, and nothing in a file is trusted."""

import gzip
import hashlib
import pickle
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cifar_format import CIFAR10_FOLDER, CIFAR10_NAMES, CIFAR10_URL, Archive, cifar10_members, python2_pickle
from cifar_format import write_archive as write
from PIL import Image
from torchvision.transforms import functional

from cifar_exp import data
from cifar_exp.data.sources import cifar
from cifar_exp.errors import RequestError

Load = Callable[..., data.Dataset]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """``cifar10`` with an empty cache folder of the test's own."""
    return partial(data.cifar10, url=CIFAR10_URL, sha256="0" * 64, cache=str(tmp_path / "cache"), image_size=32)


def unpack(members: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in members.items():
        (folder / name).write_bytes(content)
    return folder


def test_pixels_land_in_their_row_column_and_channel(load: Load, cifar10_archive: Archive, tmp_path: Path) -> None:
    pixels = np.zeros((1, 3072), np.uint8)
    pixels[0, 2 * 32 + 5] = 200  # red plane, row 2, column 5
    pixels[0, 1024 + 31] = 100  # green plane, row 0, column 31
    pixels[0, 2048 + 31 * 32] = 50  # blue plane, row 31, column 0
    members = cifar10_archive.members | cifar10_members({"test_batch": pixels}, {"test_batch": [7]})

    test = load(root=str(unpack(members, tmp_path / "batches"))).test

    assert test.images.shape == (1, 32, 32, 3)
    assert test.images[0, 2, 5].tolist() == [200, 0, 0]
    assert test.images[0, 0, 31].tolist() == [0, 100, 0]
    assert test.images[0, 31, 0].tolist() == [0, 0, 50]
    assert np.count_nonzero(test.images) == 3
    assert test.labels.tolist() == [7]


def test_batches_keep_their_order(load: Load, cifar10_archive: Archive) -> None:
    dataset = load(root=str(cifar10_archive.path), sha256=cifar10_archive.sha256)
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
    fingerprints = {
        load(root=str(root), sha256=cifar10_archive.sha256, cache=str(tmp_path / name)).fingerprint
        for name, root in roots.items()
    }
    assert len(fingerprints) == 1


def test_second_start_reads_the_cache(load: Load, cifar10_archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(root=str(cifar10_archive.path), sha256=cifar10_archive.sha256)
    monkeypatch.setattr(cifar, "read_pickle", lambda content: pytest.fail("decoded again"))
    second = load(root=str(cifar10_archive.path), sha256=cifar10_archive.sha256)
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.train.images, first.train.images)


def test_batches_pickled_again_by_python_3_are_read(load: Load, cifar10_archive: Archive, tmp_path: Path) -> None:
    members = dict(cifar10_archive.members)
    labels = [row % 10 for row in range(20)]
    members["test_batch"] = pickle.dumps({"data": cifar10_archive.data["test_batch"], "labels": labels}, protocol=2)
    again = load(root=str(unpack(members, tmp_path / "again")))
    original = load(root=str(cifar10_archive.path), sha256=cifar10_archive.sha256)
    assert again.fingerprint == original.fingerprint


def test_another_size_is_resized_as_torchvision_does(load: Load, cifar10_archive: Archive) -> None:
    dataset = load(root=str(cifar10_archive.path), sha256=cifar10_archive.sha256, image_size=16)
    original = cifar10_archive.data["test_batch"][3].reshape(3, 32, 32).transpose(1, 2, 0)
    expected = np.asarray(functional.resize(Image.fromarray(original), [16, 16]))
    np.testing.assert_array_equal(dataset.test.images[3], expected)


def test_cifar100_has_its_fine_labels(tmp_path: Path) -> None:
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
    dataset = data.cifar100(
        root=str(tmp_path), url=f"https://x/{path.name}", sha256=sha256, cache=str(tmp_path / "cache"), image_size=32
    )
    assert dataset.class_names == tuple(names)
    assert dataset.train.labels.tolist() == [99, 0, 41]
    assert dataset.test.images[2, 5, 6, 2] == pixels[2, 2048 + 5 * 32 + 6]


def test_wrong_sha256_is_named_and_nothing_unpickled(
    load: Load, cifar10_archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "read_pickle", lambda content: pytest.fail("unpickled"))
    with pytest.raises(RequestError) as caught:
        load(root=str(cifar10_archive.path), sha256="ab" * 32)
    assert str(cifar10_archive.path) in str(caught.value)
    assert cifar10_archive.sha256 in str(caught.value)
    assert "expected " + "ab" * 32 in str(caught.value)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.95])
def test_truncated_archive(load: Load, cifar10_archive: Archive, kept: float) -> None:
    whole = cifar10_archive.path.read_bytes()
    cut = whole[: int(kept * len(whole))]
    cifar10_archive.path.write_bytes(cut)
    with pytest.raises(RequestError, match=r"not a readable \.tar\.gz") as caught:
        load(root=str(cifar10_archive.path), sha256=hashlib.sha256(cut).hexdigest())
    assert str(cifar10_archive.path) in str(caught.value)


def test_archive_without_a_member(load: Load, cifar10_archive: Archive) -> None:
    del cifar10_archive.members["data_batch_3"]
    sha256 = write(cifar10_archive.path, CIFAR10_FOLDER, cifar10_archive.members)
    with pytest.raises(RequestError, match=r"holds no data_batch_3; is it the archive of cifar10\?"):
        load(root=str(cifar10_archive.path), sha256=sha256)


def test_member_of_absurd_size(load: Load, tmp_path: Path) -> None:
    info = tarfile.TarInfo(f"{CIFAR10_FOLDER}/data_batch_1")
    info.size = 1 << 40
    path = tmp_path / "huge.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    with pytest.raises(RequestError, match=r"data_batch_1 claims 1099511627776 bytes"):
        load(root=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("callable_name", "argument"),
    [
        ("os system", "touch {}"),
        ("posix system", "touch {}"),
        ("builtins eval", "open({!r}, 'w')"),
        ("__builtin__ eval", "open({!r}, 'w')"),
        ("numpy fromfile", "{}"),
    ],
)
@pytest.mark.parametrize("member", ["batches.meta", "data_batch_2"])
def test_pickle_that_runs_code_is_refused(
    load: Load, cifar10_archive: Archive, tmp_path: Path, callable_name: str, argument: str, member: str
) -> None:
    trace = tmp_path / "it-ran"
    module, name = callable_name.split()
    evil = f"c{module}\n{name}\n(S{argument.format(str(trace))!r}\ntR.".encode()
    batches = unpack(cifar10_archive.members | {member: evil}, tmp_path / "evil")
    with pytest.raises(RequestError, match=rf"refused to unpickle {module}\.{name}"):
        load(root=str(batches))
    assert not trace.exists()


BAD_BATCHES = {
    "pixels of another size": {"data": np.zeros((2, 3000), np.uint8), "labels": [0, 1]},
    "a label without an image": {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1, 2]},
    "a label out of range": {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]},
    "no labels": {"data": np.zeros((2, 3072), np.uint8)},
    "not a dictionary": [1, 2, 3],
}


@pytest.mark.parametrize("batch", BAD_BATCHES.values(), ids=BAD_BATCHES)
def test_content_that_is_not_a_batch(load: Load, cifar10_archive: Archive, tmp_path: Path, batch: object) -> None:
    batches = unpack(cifar10_archive.members | {"test_batch": python2_pickle(batch)}, tmp_path / "bad")
    with pytest.raises(RequestError, match="not the batches of cifar10"):
        load(root=str(batches))


def test_missing_root(load: Load, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"data.root={tmp_path}/nowhere: no such archive"):
        load(root=str(tmp_path / "nowhere"))


def test_folder_without_the_archive_says_what_it_looked_for(load: Load, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"no cifar-10-python.tar.gz or {CIFAR10_FOLDER} in it"):
        load(root=str(tmp_path))


def test_a_missing_batch_is_named(load: Load, cifar10_archive: Archive, tmp_path: Path) -> None:
    batches = unpack(
        {k: v for k, v in cifar10_archive.members.items() if k != "data_batch_3"}, tmp_path / CIFAR10_FOLDER
    )
    for root in (batches, batches.parent):
        with pytest.raises(RequestError, match=f"{batches} is incomplete: there is no data_batch_3$"):
            load(root=str(root))


def test_tree_of_image_files_gets_the_hint(load: Load, image_tree: Path) -> None:
    with pytest.raises(RequestError, match="data=image_folder"):
        load(root=str(image_tree))
