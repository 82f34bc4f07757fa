"""Evaluating runs again, on their own and on other data."""

import shutil

import pytest
import torch
from composing import TINY, composed
from runs import edit

from cifar_exp.cli.main import main
from cifar_exp.run_dir.tables import read_table
from cifar_exp.runner import run


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


def test_a_run_that_selects_by_a_validation_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    selecting = ("evaluation.weights=best", "scheduler=plateau", "early_stopping.patience=1", "explain.images=0")
    run(composed(*TINY, *selecting), tmp_path / "run")
    assert main(["evaluate", "run", "--out", "evaluated"]) == 0
    assert read_table(tmp_path / "evaluated" / "evaluation.csv").iloc[0]["changed_predictions"] == 0


def test_evaluating_on_other_classes_is_refused(copied, image_tree, capsys):
    assert main(["evaluate", str(copied), "data=image_folder", f"data.root={image_tree}"]) == 2
    assert "the run's classes are not the data's" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run_dir: edit(run_dir, optimizer___target_="os.system"), "not an allowed target"),
        (lambda run_dir: edit(run_dir, optimizer___target_=["a"]), "optimizer"),
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


def test_a_saved_config_does_not_choose_the_cache_folder(copied, tmp_path):
    edit(copied, data__cache=str(tmp_path / "not yours"))
    assert main(["evaluate", str(copied), "--out", "evaluated"]) == 0
    assert not (tmp_path / "not yours").exists()


def test_overrides_after_an_option(copied):
    assert main(["evaluate", str(copied), "--weights", "last", "--out", "evaluated", "data.limit_test=20"]) == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.batch_size=abc", "evaluation.batch_size=abc: must be a valid integer"),
        ("explain.indices=5", "explain.indices"),
        ("figures=maybe", "figures=maybe: must be a valid boolean"),
        ("threads={a", "cannot read an override"),
        ("max_lr=3", "must be KEY=VALUE with a key of data"),
        ("data.nothing=3", "no such key"),
        ("explain.images.nothing=3", "explain.images.nothing: the run's config has no such key"),
        ("explain.layers.0=layer1", "no such key"),
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
    "change", [{"class_names": 5}, {"mean": "abc"}, {"std": [0.0]}, {"model": [1]}, {"model": {"x": 1}}]
)
def test_a_damaged_checkpoint_is_refused(copied, capsys, change):
    path = copied / "checkpoints" / "last.pt"
    torch.save(torch.load(path, weights_only=True) | change, path)
    assert main(["evaluate", str(copied)]) == 2
    assert "last.pt" in capsys.readouterr().err
