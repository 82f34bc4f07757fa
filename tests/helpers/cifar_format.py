"""Writes archives in CIFAR's format: tar.gz of pickles as Python 2 and NumPy 1 made them, string for string."""

import hashlib
import io
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@dataclass
class Archive:
    """An archive on disk, and what went into it."""

    path: Path
    sha256: str
    members: dict[str, bytes]
    data: dict[str, np.ndarray]


def cifar10_members(data: dict[str, np.ndarray], labels: dict[str, list[int]]) -> dict[str, bytes]:
    """The six batches and the meta file, each a pickle."""
    members = {
        "batches.meta": python2_pickle({"num_cases_per_batch": 4, "label_names": CIFAR10_NAMES, "num_vis": 3072})
    }
    for name, pixels in data.items():
        filenames = [f"{name}_{row}.png" for row in range(len(pixels))]
        batch = {"batch_label": name, "labels": labels[name], "data": pixels, "filenames": filenames}
        members[name] = python2_pickle(batch)
    return members


def write_archive(path: Path, folder: str, members: dict[str, bytes]) -> str:
    """Write the members under ``folder`` and return the archive's SHA-256."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def publish(patch: pytest.MonkeyPatch, name: str, sha256: str, members: dict[str, bytes]) -> None:
    """Make an archive and its batches the published ones of ``cifar10`` or ``cifar100``."""
    from cifar_exp.data.sources import cifar

    md5 = {member: hashlib.md5(content).hexdigest() for member, content in members.items()}
    kind = cifar.torchvision_class(name)
    train, test = ([(member, md5[member]) for member, _ in part] for part in (kind.train_list, kind.test_list))
    meta = kind.meta | {"md5": md5[kind.meta["filename"]]}
    changed = type(name, (kind,), {"train_list": train, "test_list": test, "meta": meta})
    patch.setitem(cifar.SHA256, name, sha256)
    patch.setattr(cifar, "torchvision_class", lambda _: changed)


def python2_pickle(value: Any) -> bytes:
    """Protocol 2 with byte strings for ``str``, as Python 2 wrote it; Python 3 cannot be made to write it."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: Any) -> bytes:
    if isinstance(value, str | bytes):
        raw = value.encode("latin1") if isinstance(value, str) else value
        return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(key) + _opcodes(item) for key, item in value.items()) + b"u"
    return _array_opcodes(value)


def _array_opcodes(array: np.ndarray) -> bytes:
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02" + array.dtype.str[1:].encode() + b"K\x00K\x01\x87R"
    dtype += b"(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    shape = b"(" + b"".join(map(_opcodes, array.shape)) + b"t"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + _opcodes(array.tobytes()) + b"tb"
