"""Archives, batches and images from someone else: nothing of theirs runs, is unpacked elsewhere or without limit."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from cifar_format import CIFAR10_FOLDER, CIFAR10_URL, Archive
from PIL import Image

from cifar_exp import data
from cifar_exp.data.sources.pickles import read_pickle
from cifar_exp.errors import RequestError

# --- archives and batches -------------------------------------------------------------------------------


def load_archive(path: Path, cache: Path) -> data.Dataset:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return data.cifar10(root=str(path), url=CIFAR10_URL, sha256=digest, cache=str(cache), image_size=32)


def test_an_archive_that_unpacks_to_gigabytes_is_left_after_half_a_gigabyte(tmp_path):
    info = tarfile.TarInfo("zeros")
    info.size = 100 * 2**30
    zeros = gzip.compress(bytes(2**26))
    with (tmp_path / "bomb.tar.gz").open("wb") as file:
        file.write(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)))
        for _ in range(16):  # each unpacks to 64 MB; a hundred times as many would be 100 GB in 100 MB
            file.write(zeros)
    with pytest.raises(RequestError, match="unpacks to more than"):
        load_archive(tmp_path / "bomb.tar.gz", tmp_path / "cache")


def test_a_name_of_gigabytes_in_an_archive_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("cifar_exp.data.sources.cifar._MAX_UNPACKED_BYTES", 2**22)
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 100 * 2**30
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**24)))
    with pytest.raises(RequestError, match="unpacks to more than"):
        load_archive(path, tmp_path / "cache")


def test_members_with_paths_and_links_write_nothing_and_lead_nowhere(tmp_path, cifar10_archive: Archive):
    secret = tmp_path / "secret"
    secret.write_bytes(cifar10_archive.members["test_batch"])
    path = tmp_path / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("../../outside", str(tmp_path / "absolute"), f"{CIFAR10_FOLDER}/../up"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))
        for name, content in cifar10_archive.members.items():
            info = tarfile.TarInfo(f"{CIFAR10_FOLDER}/{name}")
            if name == "test_batch":
                info.type, info.linkname = tarfile.SYMTYPE, str(secret)
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    before = {one for one in tmp_path.rglob("*") if "cache" not in one.parts}
    with pytest.raises(RequestError, match="holds no test_batch"):
        load_archive(path, tmp_path / "cache")
    assert {one for one in tmp_path.rglob("*") if "cache" not in one.parts} == before


@pytest.mark.parametrize("way", ["gnu", "pax"])
def test_a_sparse_member_of_an_archive_is_not_read(tmp_path, cifar10_archive: Archive, way):
    path = tmp_path / "sparse.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, content in cifar10_archive.members.items():
            info = tarfile.TarInfo(f"{CIFAR10_FOLDER}/{name}")
            info.size = len(content)
            if name != "test_batch":
                tar.addfile(info, io.BytesIO(content))
            elif way == "gnu":  # a header that says: 250 MB, all of them a hole
                header = bytearray(tarfile.TarInfo(info.name).tobuf(tarfile.GNU_FORMAT))
                header[156:157], header[257:265] = b"S", b"ustar  \0"
                header[386:410], header[483:495] = b"%011o\0%011o\0" % (250 << 20, 0), b"%011o\0" % (250 << 20)
                header[148:156] = b" " * 8
                header[148:156] = b"%06o\0 " % sum(header)
                tar.fileobj.write(bytes(header))
                tar.offset += 512
            else:
                info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(250 << 20)}
                info.size = 0
                tar.addfile(info)
    with tarfile.open(path) as tar:
        assert tar.getmember(f"{CIFAR10_FOLDER}/test_batch").size == 250 << 20
    with pytest.raises(RequestError, match="holds no test_batch"):
        load_archive(path, tmp_path / "cache")


def long_put(slot: int) -> bytes:
    return b"\x80\x02}r" + struct.pack("<I", slot) + b"."


def dtype_opcodes(name: bytes) -> bytes:
    return b"\x80\x02}U\x04datacnumpy\ndtype\nU" + bytes([len(name)]) + name + b"K\x00K\x01\x87Rs."


PICKLES = {
    "34 GB of memo slots": long_put(2**32 - 1),
    "a bytearray of 2**60": b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b".",
    "an array without bytes": b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",
    "an array of another type": dtype_opcodes(b"V9"),
    "an array of objects": dtype_opcodes(b"O8"),
    "a codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
    "a persistent identifier": b"\x80\x02Pname\n.",
    "an extension code": b"\x80\x02\x82\x01.",
    "an attribute": b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.data\x93.",
    "an instance": b"(ios\nsystem\n.",
    "an object built": b"\x80\x02cnumpy\nndarray\n)\x81}b.",
}


@pytest.mark.parametrize("content", PICKLES.values(), ids=PICKLES)
def test_a_batch_that_asks_for_memory_or_for_other_objects_is_refused(content):
    with pytest.raises((RequestError, ValueError, TypeError)):
        read_pickle(content)


def test_labels_and_names_that_unfold_to_gigabytes_are_refused(tmp_path, cifar10_archive: Archive):
    laughs = b"](" + b"U\x01x" * 10 + b"e"
    for _ in range(12):
        laughs = b"](" + laughs + b"2" * 9 + b"e"  # nine more of the same list
    for member, key in (("batches.meta", b"U\x0blabel_names"), ("test_batch", b"U\x06labels")):
        folder = tmp_path / member
        folder.mkdir()
        for name, content in cifar10_archive.members.items():
            (folder / name).write_bytes(content)
        rest = b"U\x04dataU\x00" if member == "test_batch" else b""
        (folder / member).write_bytes(b"\x80\x02}(" + key + laughs + rest + b"u.")
        with pytest.raises(RequestError, match=r"must be a list of|not the batches"):
            data.cifar10(
                root=str(folder), url=CIFAR10_URL, sha256="0" * 64, cache=str(tmp_path / "cache"), image_size=32
            )


def test_pixels_that_were_pickled_as_numpy_pickles_today_are_read():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 6)
    for protocol in range(5):
        batch = read_pickle(pickle.dumps({"data": pixels, "labels": [0, 1]}, protocol=protocol))
        np.testing.assert_array_equal(batch["data"], pixels)
        assert batch["labels"] == [0, 1]


# --- images ---------------------------------------------------------------------------------------------


def load_tree(tree: Path, cache: Path, image_size: int = 32) -> data.Dataset:
    return data.image_folder(root=str(tree), cache=str(cache), image_size=image_size)


def test_a_format_that_another_program_would_decode_is_not_tried(tmp_path, image_tree):
    path = image_tree / "train" / "cat" / "x.png"
    Image.new("RGB", (32, 32)).save(path, format="EPS")
    with pytest.raises(RequestError, match="not an image that can be read"):
        load_tree(image_tree, tmp_path / "cache")


def test_a_pipe_among_the_images_does_not_hold_the_program_up(tmp_path, image_tree):
    os.mkfifo(image_tree / "train" / "cat" / "x.png")
    with pytest.raises(RequestError, match=r"x\.png: is not a regular file"):
        load_tree(image_tree, tmp_path / "cache")


def test_a_loop_of_links_among_the_images_is_named(tmp_path, image_tree):
    (image_tree / "train" / "cat" / "again").symlink_to("..")
    with pytest.raises(RequestError, match=r"cat: is a link to a folder that it lies in|is a link to a folder"):
        load_tree(image_tree, tmp_path / "cache")


def test_images_that_no_memory_could_hold_are_refused_before_any_is_read(tmp_path, image_tree, monkeypatch):
    monkeypatch.setattr("cifar_exp.data.sources.resize.memory_bytes", lambda: 10_000_000)
    with pytest.raises(RequestError, match=r"24 train images of 1024x1024 take 0\.1 GB"):
        load_tree(image_tree, tmp_path / "cache", image_size=1024)


def test_class_names_that_steer_a_terminal_are_shown_as_escapes(tmp_path, image_tree):
    for split in ("train", "test"):
        (image_tree / split / "dog").rename(image_tree / split / "dog\x1b[2J\n")
    assert load_tree(image_tree, tmp_path / "cache").class_names == ("cat", r"dog\x1b[2J\n")
