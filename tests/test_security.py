"""Files from someone else: no code of theirs runs, nothing is written elsewhere, no memory is exhausted."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar_format import CIFAR10_FOLDER, CIFAR10_URL, Archive
from compare_runs import make_run, write_predictions
from composing import TINY, composed
from PIL import Image

from cifar_exp import atomic_files, checkpoint, data, records
from cifar_exp.cli import main
from cifar_exp.compare.discover import find_runs, read_runs
from cifar_exp.compare.output import as_csv
from cifar_exp.compose import compose_jobs
from cifar_exp.config import load_saved, to_yaml
from cifar_exp.data.pickles import read_pickle
from cifar_exp.errors import RequestError
from cifar_exp.lifecycle import recorded
from cifar_exp.untrusted import printable, spreadsheet_safe, spreadsheet_text

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
DEEP = "[" * 500_000
FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "'=1", "''=1", "=", "-", "a=1", "'a", "-x"]


# --- run directories ------------------------------------------------------------------------------------


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def unanswered(path: Path) -> None:
    os.mkfifo(path)


def gigabytes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 * 2**30)  # of holes


ENDLESS = pytest.mark.parametrize("put", [endless, unanswered, gigabytes])


@ENDLESS
@pytest.mark.parametrize("name", ["status.json", "summary.csv"])
def test_compare_lists_a_run_whose_records_never_end(tmp_path, put, name):
    run = make_run(tmp_path / "run")
    (run / name).unlink()
    put(run / name)
    runs = read_runs(find_runs([tmp_path])[0])
    assert runs["problem"].iloc[0].startswith(f"{name}: cannot be read (")


@ENDLESS
def test_compare_does_without_a_config_that_never_ends(tmp_path, put):
    run = make_run(tmp_path / "run", state="running")
    (run / "summary.csv").unlink()
    put(run / "config_resolved.yaml")
    assert read_runs([run])["state"].tolist() == ["running"]


@pytest.mark.parametrize(
    "text", [LAUGHS, DEEP, "a: 1\nb: [", "- 1", "\x00"], ids=["laughs", "deep", "cut", "list", "nul"]
)
def test_a_config_that_unfolds_to_gigabytes_or_exhausts_the_stack_is_refused(tmp_path, text):
    run = make_run(tmp_path / "run", state="running")
    (run / "summary.csv").unlink()
    (run / "config_resolved.yaml").write_text(text)
    assert [column for column in read_runs([run]).columns if column.startswith("config.")] == []
    with pytest.raises(RequestError, match="config"):
        load_saved(run / "config_resolved.yaml")


@ENDLESS
@pytest.mark.parametrize("name", ["config_resolved.yaml", "status.json", "environment.json"])
def test_evaluate_refuses_a_run_whose_files_never_end(tmp_path, capsys, put, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text('{"state": "completed"}')
    (tmp_path / "run" / "config_resolved.yaml").write_text(to_yaml(composed(*TINY)))
    (tmp_path / "run" / name).unlink(missing_ok=True)
    put(tmp_path / "run" / name)
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert str(tmp_path / "run") in capsys.readouterr().err


@pytest.mark.parametrize("put", [endless, unanswered])
@pytest.mark.parametrize("name", ["metrics.csv", "predictions.csv"])
def test_a_table_that_never_ends_is_not_read(tmp_path, put, name):
    put(tmp_path / name)
    with pytest.raises(OSError, match="not a regular file"):
        records.read_table(tmp_path / name)


def test_comparing_everything_bad_at_once_takes_little_memory_and_prints_no_escape(tmp_path):
    for number, put in enumerate((endless, unanswered, gigabytes)):
        for name in ("status.json", "summary.csv", "predictions.csv", "metrics.csv"):
            run = make_run(tmp_path / "runs" / f"{number}-{name}")
            (run / name).unlink()
            put(run / name)
    for number, text in enumerate((LAUGHS, DEEP)):
        run = make_run(tmp_path / "runs" / f"yaml{number}", state="running")
        (run / "summary.csv").unlink()
        (run / "config_resolved.yaml").write_text(text)
    make_run(tmp_path / "runs" / "steers \x1b[2J", state="failed", error="\x1b]0;owned\x07", name="\x1b[31mred")
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30,) * 2)\n"
        "from cifar_exp.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for form in ("table", "markdown"):
        done = subprocess.run(
            [sys.executable, "-c", code, "compare", "runs", "--out", "out", "--format", form],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr == ""
        assert "\x1b" not in done.stdout
        assert "\x07" not in done.stdout
        assert "steers" in done.stdout


def test_a_run_directory_with_links_is_not_written_into(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    config = composed(*TINY)
    for name in ("run.log", "metrics.csv", "status.json", "checkpoints/last.pt"):
        run = make_run(tmp_path / f"of {name.replace('/', ' ')}", state="interrupted")
        (run / name).unlink(missing_ok=True)
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).symlink_to(outside)
        with pytest.raises(RequestError, match="is a link"), recorded(run, config, resume=True):
            pytest.fail("went on")
    (tmp_path / "linked").symlink_to(tmp_path)
    run = make_run(tmp_path / "folder", state="interrupted")
    (run / "checkpoints").symlink_to(tmp_path)
    with pytest.raises(RequestError, match="is a link"), recorded(run, config, resume=True):
        pytest.fail("went on")
    assert outside.read_text() == "mine"


def test_writing_replaces_a_link_and_appending_refuses_it(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine\n")
    beside = tmp_path / f".summary.csv.{os.getpid()}.tmp"
    for path in (tmp_path / "summary.csv", tmp_path / "metrics.csv", beside):
        path.symlink_to(outside)
    atomic_files.write_text(tmp_path / "summary.csv", "new\n")
    with pytest.raises(OSError, match="symbolic links"):
        records.append_rows(tmp_path / "metrics.csv", ("epoch",), [{"epoch": 1}])
    assert outside.read_text() == "mine\n"
    assert not (tmp_path / "summary.csv").is_symlink()


# --- configs --------------------------------------------------------------------------------------------

EXPERIMENTS = {
    "callbacks": "hydra:\n  callbacks:\n    x:\n      _target_: os.system\n      command: touch {}\n",
    "logging": "hydra:\n  job_logging:\n    formatters:\n      x:\n        (): os.system\n        command: touch {}\n",
    "folder": "hydra:\n  output_subdir: ../../../../../../{}\n",
    "run": "hydra:\n  run:\n    dir: {}\n",
    "environment": "hydra:\n  job:\n    env_set:\n      LD_PRELOAD: {}\n",
    "launcher": "hydra:\n  launcher:\n    _target_: os.system\n",
    "trust": "trust: [os]\nscheduler:\n  _target_: os.system\n",
    "grid": "hydra:\n  sweeper:\n    params:\n      +hydra.callbacks.x._target_: os.system\n",
}


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["run", "sweep"])
def test_a_config_folder_of_someone_else_decides_nothing_that_is_called(tmp_path, monkeypatch, capsys, name, flags):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "theirs" / "experiment" / "evil.yaml"
    mine.parent.mkdir(parents=True)
    body = EXPERIMENTS[name].format(tmp_path / "it-ran")
    mine.write_text(f"# @package _global_\ndefaults:\n  - quickstart\n{body}")
    assert main([*flags, "--config-dir", "theirs", "experiment=evil"]) == 2
    told = capsys.readouterr().err
    assert "command line" in told or "unknown key" in told
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_a_config_in_the_place_of_the_shipped_one_is_not_taken(tmp_path):
    evil = "defaults:\n  - base_config\n  - _self_\nhydra:\n  callbacks:\n    x:\n      _target_: os.system\n"
    (tmp_path / "config.yaml").write_text(evil)
    (job,) = compose_jobs([], config_dir=str(tmp_path))
    assert (job.hydra.callbacks, job.model.name) == ({}, "resnet18")
    (tmp_path / "other.yaml").write_text(evil)
    with pytest.raises(RequestError):
        compose_jobs([], config_name="other", config_dir=str(tmp_path))


def test_a_folder_of_ones_own_may_add_options_and_a_grid(tmp_path):
    for name, text in {
        "model/mine.yaml": "_target_: cifar_exp.models.resnet9\nname: mine\nwidth: 4\n",
        "experiment/grid.yaml": "# @package _global_\nepochs: 3\nhydra:\n  sweeper:\n    params:\n      seed: 1,2\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    (job,) = compose_jobs(["model=mine", "experiment=grid", "hydra.run.dir=here"], config_dir=str(tmp_path))
    assert (job.epochs, job.model.width, job.hydra.run.dir) == (3, 4, "here")


@pytest.mark.parametrize("target", ["os.system", "torch.hub.load", "builtins.eval", "subprocess.run"])
def test_a_saved_config_calls_nothing_that_is_not_listed_whatever_it_trusts(tmp_path, target):
    config = composed(*TINY) | {"trust": [target.split(".")[0]]}
    config["model"] = {"_target_": target, "name": "evil"}
    path = tmp_path / "config_resolved.yaml"
    path.write_text(to_yaml(config))
    with pytest.raises(RequestError, match="not on the list"):
        load_saved(path)


# --- checkpoints ----------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"\x00" * 1000])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "last.pt").write_bytes(content)
    refused(tmp_path / "last.pt")


def test_a_checkpoint_that_never_answers_is_refused(tmp_path):
    os.mkfifo(tmp_path / "last.pt")
    refused(tmp_path / "last.pt")


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
    monkeypatch.setattr("cifar_exp.data.cifar._MAX_UNPACKED_BYTES", 2**22)
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
    monkeypatch.setattr("cifar_exp.data.resize._memory_bytes", lambda: 10_000_000)
    with pytest.raises(RequestError, match=r"24 train images of 1024x1024 take 0\.1 GB"):
        load_tree(image_tree, tmp_path / "cache", image_size=1024)


# --- text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMULAS)
def test_names_that_a_spreadsheet_would_run_are_written_as_text_and_read_back(tmp_path, name):
    rows = [{"label": name, "fine": "x", "confidence": -0.5}]
    records.write_table(tmp_path / "a.csv", ("label", "fine", "confidence", name), rows)
    text = (tmp_path / "a.csv").read_bytes().decode()
    cells = text.replace("\n", ",").split(",")
    assert not any(cell.strip('"').startswith(("=", "+", "@", "\t", "\r")) for cell in cells)
    assert "-0.5" in cells
    table = records.read_table(tmp_path / "a.csv")
    assert table["label"].tolist() == [name]
    assert table["confidence"].tolist() == [-0.5]
    assert table.columns[3] == name
    assert spreadsheet_text(spreadsheet_safe(name)) == name


def test_numbers_written_as_text_stay_numbers():
    for number in ("-1", "+1", "-0.5", "-1e-05", "-inf", "=1"[1:]):
        assert spreadsheet_safe(number) == number


def test_what_compare_writes_is_safe_too(tmp_path, capsys):
    for number, name in enumerate(("=cmd()", "plain")):
        run = make_run(tmp_path / "runs" / str(number), name=name, augment__name=f"@{number}", seed=number)
        write_predictions(run, [True, True, True, False], source="=image")
    runs = read_runs(find_runs([tmp_path / "runs"])[0])
    assert runs["config.name"].tolist() == ["=cmd()", "plain"]
    assert ",'=cmd()" in as_csv(runs)
    assert main(["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--format", "csv"]) == 0
    printed = capsys.readouterr().out
    for text in (printed, (tmp_path / "out" / "comparison.csv").read_text()):
        assert "'@0" in text
        assert ",@0" not in text


def test_what_is_printed_keeps_letters_and_loses_commands():
    assert printable("größe 犬 ok") == "größe 犬 ok"
    assert printable("a\x1b[2J\x9b\u202eb\x00\r") == "a\\x1b[2J\\x9b\\u202eb\\x00\\r"


def test_class_names_that_steer_a_terminal_are_shown_as_escapes(tmp_path, image_tree):
    for split in ("train", "test"):
        (image_tree / split / "dog").rename(image_tree / split / "dog\x1b[2J\n")
    assert load_tree(image_tree, tmp_path / "cache").class_names == ("cat", r"dog\x1b[2J\n")


def test_pixels_that_were_pickled_as_numpy_pickles_today_are_read():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 6)
    for protocol in range(5):
        batch = read_pickle(pickle.dumps({"data": pixels, "labels": [0, 1]}, protocol=protocol))
        np.testing.assert_array_equal(batch["data"], pixels)
        assert batch["labels"] == [0, 1]
