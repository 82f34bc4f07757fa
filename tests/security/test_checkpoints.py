"""Checkpoints from someone else: no code of theirs runs, and none takes more memory than its file is long."""

import os
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from cifar_exp.errors import RequestError
from cifar_exp.run_dir import checkpoint
from cifar_exp.safe_io.untrusted import open_regular

CPU = torch.device("cpu")


class _Runs:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def pickled_zip(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, part in {"data.pkl": content, "version": b"3\n", "byteorder": b"little", **members}.items():
            archive.writestr(f"archive/{name}", part)


def refused(path: Path) -> None:
    with pytest.raises(RequestError, match="not a checkpoint of tensors and plain values"):
        checkpoint.load(path, CPU)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_checkpoint_that_runs_code_is_refused(tmp_path, protocol):
    path, trace = tmp_path / "last.pt", tmp_path / "it-ran"
    evil = pickle.dumps({"model": _Runs(trace)}, protocol=protocol)
    pickled_zip(path, evil)
    refused(path)
    path.write_bytes(evil)
    refused(path)
    torch.save({"model": {}, "extra": _Runs(trace)}, path)
    refused(path)
    torch.save({"model": {}, "extra": _Runs(trace)}, path, _use_new_zipfile_serialization=False)
    refused(path)
    assert not trace.exists()


def test_a_checkpoint_that_unpacks_to_gigabytes_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    torch.save({"model": {"weight": torch.zeros(25_000_000)}}, path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert path.stat().st_size < 200_000
    refused(path)


def test_a_checkpoint_whose_members_overlap_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    torch.save({"model": {"weight": torch.zeros(100_000)}}, path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:  # one more entry of the directory for the same bytes
        directory, entries = archive.start_dir, len(archive.infolist())
        size = next(info.file_size for info in archive.infolist() if info.filename.endswith("data/0"))
    central = content[
        directory : content.rindex(b"PK\x06\x06") if b"PK\x06\x06" in content else content.rindex(b"PK\x05\x06")
    ]
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2 * entries, 2 * entries, 2 * len(central), directory, 0)
    path.write_bytes(content[:directory] + 2 * central + end)
    with zipfile.ZipFile(path) as archive:
        assert sum(info.file_size for info in archive.infolist()) > 2 * size > path.stat().st_size
    refused(path)


def test_a_tensor_that_claims_more_than_is_stored_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    torch.save({"model": {"weight": torch.zeros(1).expand(10**12)}}, path)
    assert path.stat().st_size < 10_000
    refused(path)


def test_lists_of_the_same_lists_are_looked_through_once(tmp_path):
    value: list[object] = []
    for _ in range(100):
        value = [value, value]
    path = tmp_path / "last.pt"
    torch.save({"model": {}, "laughs": value}, path)
    assert checkpoint.load(path, CPU)["model"] == {}


def test_of_two_archives_in_a_file_the_one_that_was_checked_is_loaded(tmp_path):
    first, second, path = tmp_path / "first.pt", tmp_path / "second.pt", tmp_path / "last.pt"
    torch.save({"model": {"w": torch.zeros(4)}}, first)
    torch.save({"model": {"w": torch.ones(4)}}, second)
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with suppress(RequestError):
        assert checkpoint.load(path, CPU)["model"]["w"].tolist() == [1.0] * 4
    # A ZIP64 locator that points to the first archive's directory: Python does not follow it, PyTorch does.
    content = second.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, first.read_bytes().rindex(b"PK\x06\x06"), 1)
    path.write_bytes(first.read_bytes() + content[: end - 20] + locator + content[end:])
    with suppress(RequestError):
        assert checkpoint.load(path, CPU)["model"]["w"].tolist() == [1.0] * 4


def test_two_members_of_one_name_are_refused(tmp_path):
    evil = pickle.dumps({"model": {}}, protocol=2)
    for name in ("data.PKL", "sub/../data.pkl", "DATA.pkl"):
        pickled_zip(tmp_path / "last.pt", pickle.dumps({"model": {}, "x": 1}, protocol=2), **{name: evil})
        if "/" in name:
            assert checkpoint.load(tmp_path / "last.pt", CPU)["x"] == 1
        else:
            refused(tmp_path / "last.pt")


CALLS = {
    "bytearray": b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R",
    "codec": b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R",
    "sparse tensor": b"ctorch._utils\n_rebuild_sparse_tensor\n)R",
    "stack": b"\x8c\x08builtins\x8c\x09bytearray\x93",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_checkpoint_calls_nothing_but_what_tensors_are_rebuilt_by(tmp_path, call):
    pickled_zip(tmp_path / "last.pt", b"\x80\x02}(X\x05\x00\x00\x00model}X\x01\x00\x00\x00x" + call + b"u.")
    refused(tmp_path / "last.pt")


def test_every_kind_of_number_that_a_network_may_hold_is_read_back(tmp_path):
    kinds = ("float64", "float16", "bfloat16", "int8", "uint8", "bool", "complex64", "uint16", "float8_e4m3fn")
    state = {kind: torch.zeros(2, dtype=getattr(torch, kind)) for kind in kinds}
    checkpoint.save(tmp_path / "last.pt", torch.nn.Linear(2, 2), state=state, rng=torch.get_rng_state())
    loaded = checkpoint.load(tmp_path / "last.pt", CPU)["state"]
    assert {kind: tensor.dtype for kind, tensor in loaded.items()} == {k: t.dtype for k, t in state.items()}


def test_a_sparse_checkpoint_is_refused_before_it_takes_memory(tmp_path):
    path = tmp_path / "last.pt"
    torch.save({"model": {"w": torch.zeros(4)}}, path)
    content = path.read_bytes()
    with path.open("wb") as file:
        file.truncate(2**30)
        file.seek(2**30 - len(content))
        file.write(content)
    with pytest.raises(OSError, match="sparse"):
        open_regular(path)
    refused(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"\x00" * 1000])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "last.pt").write_bytes(content)
    refused(tmp_path / "last.pt")


def test_a_checkpoint_that_never_answers_is_refused(tmp_path):
    os.mkfifo(tmp_path / "last.pt")
    refused(tmp_path / "last.pt")
