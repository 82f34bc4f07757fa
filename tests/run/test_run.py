"""A whole run: every file of the contract, consistent with each other and with what was measured."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from composing import TINY, composed
from PIL import Image

from cifar_exp.config.resolved import load_saved
from cifar_exp.errors import DivergedError, RequestError
from cifar_exp.run_dir import tables
from cifar_exp.runner import run

CONTRACT = {
    "metrics.csv": "epoch, step, learning_rate, train_loss, train_accuracy, val_loss, val_accuracy, test_loss, "
    "test_accuracy, train_seconds, eval_seconds, images_per_second",
    "steps.csv": "step, epoch, learning_rate, momentum, loss",
    "summary.csv": "run, state, epochs_completed, train_loss, train_accuracy, val_loss, val_accuracy, test_loss, "
    "test_accuracy, best_epoch, best_val_accuracy, generalization_gap, misclassified, parameters, total_seconds, "
    "train_seconds, images_per_second, peak_memory_bytes, device, precision, git_commit, data_fingerprint",
    "predictions.csv": "index, source, label, prediction, confidence, correct",
    "gradcam.csv": "index, label, prediction, target, layer, map_height, map_width, peak_row, peak_column, "
    "deletion_drop, random_drop, attended_drop, control_drop",
    "faithfulness.csv": "layer, target, map_height, map_width, n, infill, attended_drop, control_drop, difference, "
    "ci_low, ci_high, verdict, rank_correlation_reinitialized",
}
FIGURES = ("curves", "learning_rate", "confusion", "misclassified", "calibration", "gradcam", "augmentations")
TIMING = ["train_seconds", "eval_seconds", "images_per_second"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run with its figures: its directory, its config and the row that it returned."""
    out_dir = tmp_path_factory.mktemp("run") / "a run"
    config = composed(*TINY, "figures=true", "explain.images=3", "explain.faithfulness_images=200")
    return out_dir, config, run(config, out_dir)


def table(out_dir, name):
    return tables.read_table(out_dir / name)


@pytest.mark.parametrize("name", CONTRACT)
def test_columns_are_the_contracts(finished, name):
    columns = list(table(finished[0], name).columns)
    expected = CONTRACT[name].split(", ")
    assert columns[: len(expected)] == expected


def test_every_file_is_there(finished):
    out_dir = finished[0]
    expected = [*CONTRACT, "config_resolved.yaml", "status.json", "environment.json", "run.log", "per_class.csv"]
    expected += ["confusion.csv", "checkpoints/last.pt", "checkpoints/best.pt"]
    expected += [f"figures/{name}.png" for name in FIGURES]
    assert [name for name in expected if not (out_dir / name).is_file()] == []
    assert [path.name for path in out_dir.rglob("*.tmp")] == []


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_pictures_with_something_on_them(finished, name):
    with Image.open(finished[0] / "figures" / f"{name}.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert min(pixels.shape) > 300
    assert pixels.std() > 10


def test_status_and_environment(finished):
    out_dir = finished[0]
    status = json.loads((out_dir / "status.json").read_text())
    assert (status["state"], status["epochs_completed"], status["error"]) == ("completed", 2, None)
    assert status["started_at"] < status["finished_at"]
    environment = json.loads((out_dir / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert environment["threads"] == torch.get_num_threads()
    assert len(environment["data_fingerprint"]) == 64


def test_the_saved_config_is_the_runs(finished):
    out_dir, config, _ = finished
    assert load_saved(out_dir / "config_resolved.yaml") == config


def test_the_tables_agree_with_each_other(finished):
    out_dir, _, row = finished
    predictions, summary = table(out_dir, "predictions.csv"), table(out_dir, "summary.csv").iloc[0]
    metrics, steps = table(out_dir, "metrics.csv"), table(out_dir, "steps.csv")
    assert len(predictions) == 100
    assert (predictions["correct"] == (predictions["label"] == predictions["prediction"])).all()
    assert summary["test_accuracy"] == predictions["correct"].mean() == metrics["test_accuracy"].iloc[-1]
    assert summary["misclassified"] == (~predictions["correct"]).sum()
    assert summary["generalization_gap"] == summary["train_accuracy"] - summary["test_accuracy"]
    assert summary["best_val_accuracy"] == metrics["val_accuracy"].max()
    assert row["test_loss"] == summary["test_loss"] == metrics["test_loss"].iloc[-1]
    assert metrics["test_accuracy"].isna().tolist() == [True, False]  # measured once, at the end
    per_class = table(out_dir, "per_class.csv")
    assert per_class["correct"].sum() == predictions["correct"].sum()
    confusion = pd.read_csv(out_dir / "confusion.csv", index_col="label")
    crossed = pd.crosstab(predictions["label"], predictions["prediction"])
    for true, counts in crossed.iterrows():
        for said, count in counts.items():
            assert confusion.loc[int(true), said] == count
    # 270 training images in batches of 128: 3 steps an epoch.
    assert steps["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert metrics["step"].tolist() == [3, 6]
    assert metrics["learning_rate"].tolist() == steps["learning_rate"].iloc[[2, 5]].tolist()
    assert summary["config.max_lr"] == 0.05
    assert summary["schedule_steps_used"] == summary["schedule_steps_planned"] == 6


def test_the_split_is_stratified_and_leaves_the_test_alone(finished):
    log = (finished[0] / "run.log").read_text()
    assert "270 training, 30 validation and 100 test images of 10 classes; 3 steps an epoch, 6 in all" in log
    labels = table(finished[0], "predictions.csv")["label"]
    assert labels.value_counts().tolist() == [10] * 10


def test_gradcam_is_of_the_most_confident_mistakes(finished):
    out_dir = finished[0]
    predictions, cams = table(out_dir, "predictions.csv"), table(out_dir, "gradcam.csv")
    wrong = predictions[~predictions["correct"]].sort_values("confidence", ascending=False, kind="stable")
    assert cams["index"].drop_duplicates().tolist() == wrong["index"].head(3).tolist()
    assert set(cams["layer"]) == {"layer1", "layer2", "layer3"}
    assert set(zip(cams["map_height"], cams["map_width"], strict=True)) == {(16, 16), (8, 8), (4, 4)}
    assert len(cams) == 3 * 3 * 2


def test_faithfulness_is_measured_on_as_many_images_as_evaluation_pays_for(finished):
    tested = table(finished[0], "faithfulness.csv")
    assert tested["layer"].tolist() == ["layer1", "layer2", "layer3"] * 2
    assert set(tested.loc[tested["target"] == "predicted", "n"]) == {30}  # of 100 test images
    difference = tested["attended_drop"] - tested["control_drop"]
    assert np.allclose(difference, tested["difference"], equal_nan=True)
    measured = tested.dropna(subset=["difference"])
    assert measured["verdict"].notna().all()
    assert ((measured["ci_low"] <= measured["difference"]) & (measured["difference"] <= measured["ci_high"])).all()


def test_the_checkpoint_holds_the_weights_that_were_measured(finished):
    out_dir, config, row = finished
    from cifar_exp.build import build
    from cifar_exp.evaluation.metrics import evaluate

    state = torch.load(out_dir / "checkpoints" / "last.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (2, 6)
    parts = build(config)
    parts.learner.model.load_state_dict(state["model"])
    found = evaluate(
        parts.learner.model, parts.splits.test, compute=parts.compute, normalize=parts.normalize, batch_size=512
    )
    assert found.loss == row["test_loss"]


def test_a_run_depends_neither_on_the_generators_state_nor_on_its_loader_processes(finished, tmp_path):
    torch.manual_seed(99)  # as another job of the same process might leave it
    run(composed(*TINY, "explain.images=3", "data.workers=2"), tmp_path / "again")
    for name in ("metrics.csv", "steps.csv", "predictions.csv", "per_class.csv", "gradcam.csv"):
        first, second = (
            table(out, name).drop(columns=TIMING, errors="ignore") for out in (finished[0], tmp_path / "again")
        )
        pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_another_seed_gives_other_numbers_on_the_same_split(finished, tmp_path):
    run(composed(*TINY, "seed=1"), tmp_path / "other")
    assert table(tmp_path / "other", "steps.csv")["loss"].iloc[0] != table(finished[0], "steps.csv")["loss"].iloc[0]
    sources = [table(out, "predictions.csv")["source"].tolist() for out in (finished[0], tmp_path / "other")]
    assert sources[0] == sources[1]


def test_a_directory_that_contains_a_run_is_not_changed(finished):
    before = (finished[0] / "metrics.csv").read_bytes()
    with pytest.raises(RequestError, match="already contains a run"):
        run(finished[1], finished[0])
    assert (finished[0] / "metrics.csv").read_bytes() == before
    assert json.loads((finished[0] / "status.json").read_text())["state"] == "completed"


def test_divergence_is_recorded_and_everything_until_then_kept(tmp_path):
    with pytest.raises(DivergedError):
        run(composed(*TINY, "max_lr=1e6", "epochs=20", "figures=true"), tmp_path / "run")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "diverged"
    assert "try a smaller max_lr" in status["error"]
    steps = table(tmp_path / "run", "steps.csv")
    assert np.isfinite(steps["loss"].iloc[:-1]).all()
    assert not np.isfinite(steps["loss"].iloc[-1])
    assert table(tmp_path / "run", "summary.csv")["state"].tolist() == ["diverged"]
    assert (tmp_path / "run" / "figures" / "learning_rate.png").exists()


@pytest.mark.parametrize(
    ("error", "state", "logged"),
    [(RuntimeError("out of luck"), "failed", "RuntimeError: out of luck"), (KeyboardInterrupt(), "interrupted", "")],
)
def test_a_run_that_ends_early_records_its_state_and_traceback(tmp_path, monkeypatch, error, state, logged):
    def ends(*_arguments, **_options):
        raise error

    monkeypatch.setattr("cifar_exp.stages.train", ends)
    with pytest.raises(type(error)):
        run(composed(*TINY), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == state
    log = (tmp_path / "run" / "run.log").read_text()
    assert "Traceback" in log
    assert logged in log


def test_figures_that_are_turned_off_are_not_there(tmp_path):
    run(composed(*TINY, "figures=true", "explain.images=0", "epochs=1", r"name=a$\\frac$b"), tmp_path / "run")
    assert not (tmp_path / "run" / "figures" / "gradcam.png").exists()
    assert table(tmp_path / "run", "gradcam.csv").empty
    assert (tmp_path / "run" / "figures" / "curves.png").exists()


def test_the_published_defects_are_logged(tmp_path, caplog):
    logging.getLogger("cifar_exp").propagate = True
    small = ("data=mnist5k", "model=resnet9", "model.width=4", "data.limit_train=300", "data.limit_test=100")
    config = composed(
        "experiment=published",
        *small,
        "epochs=2",
        "figures=false",
        "explain.images=1",
        "explain.layers=[layer2,layer3]",
    )
    with caplog.at_level(logging.INFO, logger="cifar_exp"):
        row = run(config, tmp_path / "run")
    assert (row["schedule_steps_used"], row["schedule_steps_planned"]) == (2, 6)
    assert row["schedule"].startswith("incomplete: 2 of 6 planned steps used")
    assert row["selection_split"] == "test"
    assert row["best_val_accuracy"] is None
    # 100 test images are one batch: the sum of batch means is the loss itself, and is divided by 100 again.
    assert row["test_loss"] / row["test_loss_as_published"] == pytest.approx(100)
    assert table(tmp_path / "run", "metrics.csv")["test_accuracy"].notna().all()
    for said in ("its accuracy is optimistic", "incomplete: 2 of 6", "means of batches of 128 summed"):
        assert said in caplog.text
    assert f"{row['misclassified']} of 100 test images misclassified" in caplog.text
    assert set(table(tmp_path / "run", "gradcam.csv")["layer"]) == {"layer2", "layer3"}


def test_the_best_weights_are_measured_on_request(tmp_path):
    # A learning rate that is too high at the end makes the last epoch worse than an earlier one.
    config = composed(*TINY, "epochs=6", "scheduler=constant", "max_lr=0.4", "evaluation.weights=best", "seed=3")
    row = run(config, tmp_path / "run")
    metrics = table(tmp_path / "run", "metrics.csv")
    best = int(metrics["val_accuracy"].idxmax())
    assert row["best_epoch"] == best + 1
    assert row["val_accuracy"] == metrics["val_accuracy"].iloc[best]
    assert row["test_accuracy"] == table(tmp_path / "run", "predictions.csv")["correct"].mean()


def test_a_run_without_misclassified_images_has_its_figures(tmp_path):
    config = composed(*TINY, "figures=true", "data.limit_test=2", "explain.indices=[0]", "epochs=1")
    run(config, tmp_path / "named")
    assert set(table(tmp_path / "named", "gradcam.csv")["index"]) == {0}
    with pytest.raises(RequestError, match=r"explain\.indices=2: the test split has images 0 to 1"):
        run(composed(*TINY, "data.limit_test=2", "explain.indices=[2]"), tmp_path / "out of range")


@pytest.mark.jpeg
def test_published_run_on_all_images_has_391_steps_per_epoch(jpeg_root):
    from cifar_exp.build import build

    config = composed("experiment=published", "data=image_folder", f"data.root={jpeg_root}")
    parts = build(config)
    assert parts.splits.train.images.shape == (50_000, 32, 32, 3)
    assert parts.splits.test.images.shape == (10_000, 32, 32, 3)
    assert parts.splits.validation is None
    assert np.bincount(parts.splits.train.labels).tolist() == [5_000] * 10
    assert np.bincount(parts.splits.test.labels).tolist() == [1_000] * 10
    assert (parts.batches.per_epoch, parts.learner.total_steps, len(parts.planned)) == (391, 7_820, 7_820)
    # Computed and rounded to four places; the published run wrote these numbers down.
    assert parts.statistics.mean == (0.4913, 0.4821, 0.4465)
    assert parts.statistics.std == (0.2452, 0.2428, 0.2606)
    assert [layer.name for layer in parts.explained.layers] == ["layer1", "layer2", "layer3", "layer4"]
