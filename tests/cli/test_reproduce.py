"""Reproducing and evaluating runs again: identical bits, or a named difference."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from composing import TINY, composed
from PIL import Image

from cifar_exp.cli.main import main
from cifar_exp.cli.reproduce import first_difference
from cifar_exp.config.parse import plain
from cifar_exp.run_dir.tables import read_table
from cifar_exp.runner import run


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("original") / "run"
    run(composed(*TINY, "data.workers=0"), out_dir)
    return out_dir


@pytest.fixture
def copied(original, tmp_path, monkeypatch):
    """The run moved elsewhere, and another current folder."""
    shutil.copytree(original, tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "moved"


def edit(run_dir, **changes):
    path = run_dir / "config_resolved.yaml"
    config = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *groups, leaf = key.split("__")
        node = config
        for group in groups:
            node = node[group]
        node[leaf] = value
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def reproduced(run_dir, *arguments):
    code = main(["reproduce", str(run_dir), "--out", "again", *arguments])
    from pathlib import Path

    return code, json.loads(Path("again", "reproduction.json").read_text())


def test_a_moved_run_is_the_same_to_the_last_bit(copied, capsys):
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


def test_evaluating_again_gives_the_same_numbers(copied, capsys):
    assert main(["evaluate", str(copied), "--out", "evaluated"]) == 0
    for name in ("predictions.csv", "per_class.csv", "confusion.csv", "gradcam.csv"):
        assert (copied.parent / "elsewhere" / "evaluated" / name).read_bytes() == (copied / name).read_bytes()
    row = read_table(copied.parent / "elsewhere" / "evaluated" / "evaluation.csv").iloc[0]
    summary = read_table(copied / "summary.csv").iloc[0]
    assert (row["loss"], row["accuracy"]) == (summary["test_loss"], summary["test_accuracy"])
    assert row["changed_predictions"] == 0
    assert "identical to the last bit" in capsys.readouterr().out


def test_evaluating_on_other_images_of_the_same_classes(copied, capsys):
    assert main(["evaluate", str(copied), "data.limit_test=20", "--out", "fewer"]) == 0
    assert len(read_table(copied.parent / "elsewhere" / "fewer" / "predictions.csv")) == 20
    assert "The test images differ from the run's" in capsys.readouterr().out


def test_evaluating_on_other_classes_is_refused(copied, image_tree, capsys):
    assert main(["evaluate", str(copied), "data=image_folder", f"data.root={image_tree}"]) == 2
    assert "the run's classes are not the data's" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run_dir: edit(run_dir, optimizer___target_="os.system"), "not an allowed target"),
        (lambda run_dir: edit(run_dir, trust=["os"], optimizer___target_="os.system"), "not an allowed target"),
        (lambda run_dir: edit(run_dir, name="${oc.env:HOME}"), "interpolation"),
        (lambda run_dir: edit(run_dir, data=5), "data=5: must be one of the group's options"),
        (lambda run_dir: edit(run_dir, optimizer___target_=["a"]), "optimizer"),
        (lambda run_dir: edit(run_dir, optimizer__momentum="fast"), "optimizer.momentum=fast: must be a valid number"),
        (lambda run_dir: (run_dir / "config_resolved.yaml").unlink(), "not a run directory"),
        (lambda run_dir: (run_dir / "status.json").write_text("{"), "cannot be read"),
        (
            lambda run_dir: (run_dir / "status.json").write_text('{"state": "failed"}'),
            "is not completed (state: failed)",
        ),
    ],
)
def test_a_damaged_or_unsafe_run_is_refused(copied, capsys, damage, message):
    damage(copied)
    assert main(["evaluate", str(copied)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("command", ["reproduce", "evaluate"])
def test_a_file_or_nothing_is_not_a_run(copied, capsys, command):
    assert main([command, str(copied / "status.json")]) == 2
    assert "is a file, not a run directory" in capsys.readouterr().err
    assert main([command, "nowhere"]) == 2
    assert "there is no such run" in capsys.readouterr().err


def test_a_checkpoint_with_code_in_it_is_not_run(copied, capsys, tmp_path):
    import os

    import torch

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save({"model": Evil()}, copied / "checkpoints" / "last.pt")
    assert main(["evaluate", str(copied)]) == 2
    assert "not a checkpoint of tensors" in capsys.readouterr().err
    assert not (tmp_path / "pwned").exists()


def test_a_saved_config_does_not_choose_the_cache_folder(copied, tmp_path):
    edit(copied, data__cache=str(tmp_path / "not yours"))
    assert main(["evaluate", str(copied), "--out", "evaluated"]) == 0
    assert not (tmp_path / "not yours").exists()


@pytest.mark.jpeg
@pytest.mark.parametrize("workers", [0, 2])
def test_on_real_images_it_is_the_same_with_any_number_of_workers(tmp_path, monkeypatch, jpeg_root, workers):
    monkeypatch.chdir(tmp_path)
    config = composed(
        "data=image_folder", f"data.root={jpeg_root}", "data.limit_train=1000", "data.limit_test=500", "model=resnet9",
        "model.width=8", "epochs=2", "figures=false", "explain.images=2", f"data.workers={workers}",
    )  # fmt: skip
    run(config, tmp_path / "run")
    edit(tmp_path / "run", data__workers=2 - workers)
    code, verdict = reproduced(tmp_path / "run")
    assert (code, verdict["same"], verdict["predictions"]["changed"]) == (0, True, 0)


def test_overrides_after_an_option(copied):
    assert main(["evaluate", str(copied), "--weights", "last", "--out", "evaluated", "data.limit_test=20"]) == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.batch_size=abc", "could not be converted to Integer"),
        ("explain.indices=5", "explain.indices"),
        ("figures=maybe", "not a valid bool"),
        ("threads={a", "cannot read an override"),
        ("max_lr=3", "must be KEY=VALUE with a key of data"),
        ("data.nothing=3", "no such key"),
    ],
)
def test_a_wrong_override_of_an_evaluation_leaves_no_directory(copied, capsys, override, message):
    assert main(["evaluate", str(copied), override, "--out", "evaluated"]) == 2
    assert message in capsys.readouterr().err
    assert not (copied.parent / "elsewhere" / "evaluated").exists()


def test_other_data_is_resized_to_the_trained_size(tmp_path, monkeypatch, image_tree):
    monkeypatch.chdir(tmp_path)
    node = ("data=image_folder", f"data.root={image_tree}", "data.limit_train=null")
    run(composed(*TINY, *node, "data.image_size=40"), tmp_path / "run")
    assert main(["evaluate", "run", "--out", "evaluated", "data=image_folder", f"data.root={image_tree}"]) == 0
    assert (tmp_path / "evaluated" / "predictions.csv").read_bytes() == (
        tmp_path / "run" / "predictions.csv"
    ).read_bytes()


def test_images_of_one_class_are_enough_to_evaluate(tmp_path, monkeypatch, image_tree, capsys):
    monkeypatch.chdir(tmp_path)
    node = ("data=image_folder", f"data.root={image_tree}", "data.limit_train=null", "batch_size=12")
    run(composed(*TINY, *node), tmp_path / "run")
    for folder in ("one/dog", "two/test/dog"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(image_tree / "test" / "dog" / "02.png", tmp_path / folder / "x.png")
    (tmp_path / "one" / "table.csv").write_text("file,label\ndog/x.png,dog\n")
    expected = read_table(tmp_path / "run" / "predictions.csv").set_index("source").loc["test/dog/02.png"]
    for place, data in enumerate(
        (["data=image_folder", "data.root=one"], ["data.root=two"], ["data=image_csv", "data.csv_file=one/table.csv"])
    ):
        assert main(["evaluate", "run", "--out", f"evaluated{place}", *data]) == 0, capsys.readouterr().err
        [found] = read_table(tmp_path / f"evaluated{place}" / "predictions.csv").to_dict("records")
        assert (found["label"], found["prediction"]) == ("dog", expected["prediction"])
        assert found["confidence"] == pytest.approx(expected["confidence"], rel=1e-4)
    (tmp_path / "one" / "dog").rename(tmp_path / "one" / "yak")
    assert main(["evaluate", "run", "data=image_folder", "data.root=one"]) == 2
    assert "the run's classes are not the data's: the network has no yak; it has cat, dog" in capsys.readouterr().err


def test_a_folder_that_the_run_split_is_evaluated_as_split(tmp_path, monkeypatch, image_tree):
    monkeypatch.chdir(tmp_path)
    node = (
        "data=image_folder",
        f"data.root={image_tree / 'train'}",
        "data.limit_train=null",
        "batch_size=9",
        "epochs=1",
    )
    run(composed(*TINY, *node), tmp_path / "run")
    shutil.move(image_tree / "train", tmp_path / "moved")
    assert main(["evaluate", "run", "data.root=moved", "--out", "evaluated"]) == 0
    row = read_table(tmp_path / "evaluated" / "evaluation.csv").iloc[0]
    assert (row["images"], row["changed_predictions"]) == (5, 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.csv", "epoch\n1\n2\n", "no column step"),
        ("metrics.csv", "", "cannot be read"),
        ("predictions.csv", "index,source\n0,x\n", "no column prediction"),
        ("config_resolved.yaml", "name: &a [*a]\n", "YAML alias"),
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


def test_a_saved_run_may_not_read_files_as_its_archive(copied, capsys, tmp_path):
    cifar = plain(composed(*(key for key in TINY if not key.startswith("experiment")), "model=resnet9"))
    cifar["data"]["url"] = "file:///dev/zero"
    (copied / "config_resolved.yaml").write_text(yaml.safe_dump(cifar, sort_keys=False))
    assert main(["reproduce", str(copied)]) == 2
    assert "starts with https:// or http://" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change", [{"class_names": 5}, {"mean": "abc"}, {"std": [0.0]}, {"model": [1]}, {"model": {"x": 1}}]
)
def test_a_damaged_checkpoint_is_refused(copied, capsys, change):
    import torch

    path = copied / "checkpoints" / "last.pt"
    torch.save(torch.load(path, weights_only=True) | change, path)
    assert main(["evaluate", str(copied)]) == 2
    assert "last.pt" in capsys.readouterr().err
