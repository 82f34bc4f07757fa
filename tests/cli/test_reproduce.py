"""Reproducing runs: identical bits, or a named difference."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from composing import TINY, composed
from PIL import Image
from runs import edit

from cifar_exp.cli.main import main
from cifar_exp.cli.reproduce import first_difference
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.tables import read_table
from cifar_exp.runner import run


def reproduced(run_dir, *arguments):
    code = main(["reproduce", str(run_dir), "--out", "again", *arguments])
    return code, json.loads(Path("again", "reproduction.json").read_text())


def test_a_moved_run_is_the_same_to_the_last_bit(copied, capsys, monkeypatch):
    monkeypatch.setattr(tables, "METRICS_COLUMNS", (*tables.METRICS_COLUMNS, "new_column"))  # of a later version
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    code, verdict = reproduced(copied)
    assert (code, verdict["same"], verdict["first_difference"]) == (0, True, None)
    assert verdict["predictions"] == {"images": 100, "changed": 0}
    assert verdict["changes"] == []
    assert "identical to the last bit in all 2 epochs" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_workers_and_precision_do_not_change_the_result(tmp_path, monkeypatch, precision):
    monkeypatch.chdir(tmp_path)
    run(composed(*TINY, f"precision={precision}", "data.workers=2", "augment=published", "epochs=1"), tmp_path / "run")
    edit(tmp_path / "run", data__workers=0)
    code, verdict = reproduced(tmp_path / "run")
    assert (code, verdict["same"]) == (0, True)


def test_another_seed_is_different_and_named(copied, capsys):
    edit(copied, seed=1)
    code, verdict = reproduced(copied)
    first = verdict["first_difference"]
    assert (code, verdict["same"]) == (1, False)
    assert (first["table"], first["row"], first["column"]) == ("metrics.csv", "epoch 1", "train_loss")
    losses = [
        read_table(path / "metrics.csv")["train_loss"]
        for path in (copied.parent / "moved", copied.parent / "elsewhere" / "again")
    ]
    assert (first["then"], first["now"]) == (losses[0][0], losses[1][0])
    assert verdict["final_differences"]["train_loss"] == losses[1][1] - losses[0][1]
    assert {"what": "config_resolved.yaml", "then": "as the run started", "now": "edited since"} in verdict["changes"]
    out = capsys.readouterr().out
    assert "DIFFERENT, first at epoch 1, column train_loss" in out
    assert "edited since" in out


def test_another_thread_count_is_named(copied, capsys):
    edit(copied, threads=2)
    _, verdict = reproduced(copied)
    threads = next(change for change in verdict["changes"] if change["what"] == "threads")
    assert (threads["then"], threads["now"]) == (1, 2)
    assert "threads" in capsys.readouterr().out


def test_a_changed_image_is_reported_before_training(tmp_path, monkeypatch, image_tree, capsys):
    monkeypatch.chdir(tmp_path)
    run(composed(*TINY, "data=image_folder", f"data.root={image_tree}", "data.limit_train=null"), tmp_path / "run")
    shutil.move(image_tree, tmp_path / "elsewhere")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "elsewhere" / "train" / "cat" / "00.png")
    code, verdict = reproduced(tmp_path / "run", "--data-root", str(tmp_path / "elsewhere"))
    assert code == 1
    assert "data_fingerprint" in [change["what"] for change in verdict["changes"]]
    out = capsys.readouterr()
    said = out.out + out.err
    assert said.index("The data differs from the run's") < said.index("Run directory")


def test_tolerance():
    then = pd.DataFrame(
        {"epoch": [1, 2], "train_loss": [0.5, 0.25], "train_seconds": [1.0, 2.0], "val_loss": [np.nan, 1]}
    )
    now = then.assign(train_loss=[0.5, 0.26], train_seconds=[9.0, 9.0])
    found = first_difference(then, now, 0.0)
    assert found is not None
    assert (found.row, found.column, found.then, found.now) == ("epoch 2", "train_loss", 0.25, 0.26)
    assert first_difference(then, now, 0.02) is None
    assert first_difference(then, then.assign(val_loss=[0.0, 1]), 1.0).column == "val_loss"
    assert first_difference(then, then.iloc[:1], 0.0).row == "epoch 2"


@pytest.mark.parametrize("command", ["reproduce", "evaluate"])
def test_a_file_or_nothing_is_not_a_run(copied, capsys, command):
    assert main([command, str(copied / "status.json")]) == 2
    assert "is a file, not a run directory" in capsys.readouterr().err
    assert main([command, "nowhere"]) == 2
    assert "there is no such run" in capsys.readouterr().err


@pytest.mark.jpeg
def test_a_run_on_real_images_is_reproduced_with_loader_processes(tmp_path, monkeypatch, jpeg_root):
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 60), ("test", 20)):
        for name in ("cat", "dog", "ship"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for path in sorted((jpeg_root / split / name).iterdir())[:count]:
                shutil.copy(path, tmp_path / "images" / split / name)
    options = [text for text in TINY if not text.startswith(("experiment", "data.", "batch_size"))]
    own = ("data=image_folder", "data.root=images", "model=resnet9", "data.workers=0", "batch_size=32")
    run(composed(*own, *options), tmp_path / "run")
    edit(tmp_path / "run", data__workers=2)
    code, verdict = reproduced(tmp_path / "run")
    assert (code, verdict["same"]) == (0, True)
    assert verdict["predictions"] == {"images": 60, "changed": 0}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.csv", "epoch\n1\n2\n", "no column step"),
        ("metrics.csv", "", "cannot be read"),
        ("predictions.csv", "index,source\n0,x\n", "no column prediction"),
        ("config_resolved.yaml", "data: 5\n", "data=5: must be one of the group's options"),
    ],
)
def test_damaged_tables_and_configs_are_named_before_training(copied, capsys, name, content, message):
    (copied / name).write_text(content)
    assert main(["reproduce", str(copied), "--out", "again"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not (copied.parent / "elsewhere" / "again").exists()
