"""``experiment=speedrun``, made small: a run like any other, with one more column."""

import pandas as pd
import pytest
from composing import composed

from cifar_exp.cli.evaluate import evaluate_run
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.saved_run import open_run
from cifar_exp.runner import run

SMALL = (
    "experiment=speedrun",
    "data=mnist5k",
    "data.limit_train=400",
    "data.limit_test=100",
    "batch_size=40",
    "max_lr=0.2",
    "epochs=4",
    "model.widths=[8,8,8]",
    "threads=1",
    "precision=float32",  # bfloat16 rounds away what a channel of eight has to say about a digit
    "explain.images=1",
    "figures=false",
)
TIMING = ["train_seconds", "eval_seconds", "images_per_second"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run's directory and the row that it returned."""
    out_dir = tmp_path_factory.mktemp("speedrun") / "run"
    return out_dir, run(composed(*SMALL, "figures=true"), out_dir)


def assert_same_numbers(one, other):
    for name in ("metrics.csv", "steps.csv", "predictions.csv"):
        first, second = (tables.read_table(out / name).drop(columns=TIMING, errors="ignore") for out in (one, other))
        pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_it_learns_and_shows_what_the_network_saw(finished):
    out_dir, row = finished
    assert row["test_accuracy"] > 0.3  # three times chance after 40 steps
    assert (out_dir / "figures" / "augmentations.png").exists()  # small images in the first epochs
    rates = tables.read_table(out_dir / "steps.csv")["learning_rate"]
    assert rates.iloc[0] == rates.max() == row["peak_learning_rate"]


def test_views_have_a_column_of_their_own_and_change_nothing_else(finished, tmp_path):
    out_dir, row = finished
    summary, predictions = tables.read_table(out_dir / "summary.csv"), tables.read_table(out_dir / "predictions.csv")
    assert summary["test_accuracy"].item() == predictions["correct"].mean()
    assert 0 < summary["test_accuracy_tta"].item() == row["test_accuracy_tta"] <= 1
    assert "with test-time augmentation (mirror_translate)" in (out_dir / "run.log").read_text()
    without = run(composed(*SMALL, "evaluation.test_time_augmentation=none"), tmp_path / "without")
    assert without["test_accuracy_tta"] is None
    assert tables.read_table(tmp_path / "without" / "summary.csv")["test_accuracy_tta"].isna().all()
    assert_same_numbers(out_dir, tmp_path / "without")


def test_evaluating_again_gives_both_accuracies(finished, tmp_path):
    out_dir, row = finished
    found = evaluate_run(open_run(out_dir), ["figures=false", "explain.images=0"], None, tmp_path / "evaluation")
    assert (found["accuracy"], found["accuracy_tta"]) == (row["test_accuracy"], row["test_accuracy_tta"])
    assert found["changed_predictions"] == 0


def test_worker_processes_change_nothing(finished, tmp_path):
    run(composed(*SMALL, "data.workers=2"), tmp_path / "workers")
    assert_same_numbers(finished[0], tmp_path / "workers")
