"""The page of a run: its numbers and findings against the CSVs."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from composing import TINY, composed
from report_runs import embedded, visible_text, write_run
from sklearn import metrics
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from cifar_exp.cli import main
from cifar_exp.config.parse import as_containers
from cifar_exp.reports.figures.images import TARGETS as EXPLAINED_TARGETS
from cifar_exp.reports.run_page.config_tree import config_tree, default_leaves
from cifar_exp.reports.run_page.findings import findings
from cifar_exp.reports.run_page.page import run_page
from cifar_exp.run_dir import kept_images, tables
from cifar_exp.run_dir.read import read_run
from cifar_exp.runner import run


@pytest.fixture(scope="module")
def real_run(tmp_path_factory):
    """A run of seconds that wrote its page itself."""
    path = tmp_path_factory.mktemp("real") / "run"
    run(composed(*TINY, "report=true", "explain.images=3"), path)
    return path


@pytest.fixture
def by_hand(tmp_path):
    return write_run(tmp_path / "run")


def test_the_headline_is_computed_from_the_predictions(real_run):
    predictions = pd.read_csv(real_run / "predictions.csv")
    right, n = int(predictions["correct"].sum()), len(predictions)
    low, high = proportion_confint(right, n, alpha=0.05, method="wilson")
    text = visible_text((real_run / "report.html").read_text())
    assert f"{100 * right / n:.2f}%" in text
    assert f"95% interval {100 * low:.2f}% to {100 * high:.2f}% (Wilson), {n} test images" in text
    assert f"Misclassified {n - right} of {n} test images" in text
    summary = pd.read_csv(real_run / "summary.csv").iloc[0]
    sign = "+" if summary["generalization_gap"] >= 0 else "−"  # noqa: RUF001
    assert f"Gap {sign}{abs(100 * summary['generalization_gap']):.2f} points" in text


def test_the_accuracy_with_test_time_augmentation_has_a_tile_of_its_own(by_hand):
    assert "test-time augmentation" not in visible_text(run_page(by_hand))
    summary = pd.read_csv(by_hand / "summary.csv")
    summary.assign(test_accuracy_tta=0.8725).to_csv(by_hand / "summary.csv", index=False)
    assert "With test-time augmentation 87.25% test accuracy over several views" in visible_text(run_page(by_hand))


def test_the_curves_are_the_csvs(real_run):
    charts = embedded((real_run / "report.html").read_text())["charts"]
    epochs, steps, schedule = (pd.read_csv(real_run / f"{name}.csv") for name in ("metrics", "steps", "schedule"))
    lines = {
        (chart, line["name"]): line["points"] for chart in ("loss", "accuracy", "learning_rate")
        for line in charts[chart]["data"]["lines"]
    }  # fmt: skip
    assert lines["loss", "train"] == epochs[["epoch", "train_loss"]].to_numpy().tolist()
    assert lines["accuracy", "validation"] == epochs[["epoch", "val_accuracy"]].to_numpy().tolist()
    assert lines["accuracy", "test"] == epochs[["epoch", "test_accuracy"]].dropna().to_numpy().tolist()
    assert lines["learning_rate", "used"] == steps[["step", "learning_rate"]].to_numpy().tolist()
    assert lines["learning_rate", "planned"] == schedule[["step", "learning_rate"]].to_numpy().tolist()
    counts = pd.read_csv(real_run / "confusion.csv").iloc[:, 1:].to_numpy()
    counts = np.vstack([counts, counts.sum(axis=0)])
    counts = np.hstack([counts, counts.sum(axis=1, keepdims=True)])  # the last row and column are totals
    assert charts["confusion"]["data"]["values"] == counts.tolist()
    calibration = pd.read_csv(real_run / "calibration.csv")
    shown = charts["reliability"]["data"]["points"]
    columns = ["mean_confidence", "accuracy", "accuracy_low", "accuracy_high", "images"]
    np.testing.assert_array_equal(shown, calibration[columns].to_numpy())


def test_the_plan_is_recorded_step_by_step(real_run):
    schedule, steps = pd.read_csv(real_run / "schedule.csv"), pd.read_csv(real_run / "steps.csv")
    assert tuple(schedule.columns) == tables.SCHEDULE_COLUMNS
    # scheduler=one_cycle with interval=step: what was planned is what was used.
    pd.testing.assert_frame_equal(schedule, steps[["step", "learning_rate"]])


def test_every_mistake_is_in_the_gallery_with_its_own_pixels(real_run):
    gallery = embedded((real_run / "report.html").read_text())["data"]["gallery"]["images"]
    predictions = pd.read_csv(real_run / "predictions.csv", dtype={"label": str, "prediction": str})
    classes = embedded((real_run / "report.html").read_text())["data"]["classes"]
    shown = {one["index"]: one for one in gallery}
    assert set(predictions.index[~predictions["correct"]]) <= set(shown)
    for index, one in shown.items():
        row = predictions.iloc[index]
        assert (classes[one["label"]], classes[one["prediction"]]) == (row["label"], row["prediction"])
        assert one["confidence"] == row["confidence"]
    kept = kept_images.read_images(real_run / "report_images.npz")
    assert kept.image.shape[1:] == (32, 32, 1)
    assert kept.layers == ("layer1", "layer2", "layer3")
    assert kept.heat.shape == (3, 3, 2, 32, 32)
    assert tuple(EXPLAINED_TARGETS) == kept_images.TARGETS


def test_each_map_comes_with_its_row_of_gradcam_csv(real_run):
    explained = embedded((real_run / "report.html").read_text())["data"]["explained"]
    table = pd.read_csv(real_run / "gradcam.csv").set_index(["index", "layer", "target"])
    compared = 0
    for one in explained["images"]:
        for target, maps in one["maps"].items():
            for layer, shown in zip(explained["layers"], maps, strict=True):
                row = table.loc[(one["index"], layer, target)]
                assert (shown["attended"], shown["control"]) == (row["attended_drop"], row["control_drop"])
                assert (shown["image"] is None) == pd.isna(row["peak_row"])
                compared += 1
    assert compared == len(table) == 18


def test_every_source_of_a_finding_has_the_value_of_its_cell(real_run, by_hand):
    for path in (real_run, by_hand):
        found = findings(read_run(path))
        assert len(found) >= 7
        compared = 0
        for source in (source for finding in found for source in finding.sources):
            table = pd.read_csv(path / source.file, dtype={"class": str, "label": str})
            assert source.column in table.columns
            key, _, value = source.row.partition(" ")
            if source.row == "the only one":
                row = table
            elif key in ("epoch", "step"):
                row = table[table[key] == int(value.replace(",", ""))]
            elif key in ("class", "label"):
                row = table[table[key] == value]
            else:
                continue  # sums and means; see the cases worked by hand
            assert len(row) == 1
            cell = row[source.column].iloc[0]
            assert source.value in (f"{cell:.6g}", f"{cell:.4g}", f"{cell:,}") if not isinstance(cell, str) else cell
            compared += 1
        assert compared >= 8


def _finding(path, title):
    found = {finding.title: finding for finding in findings(read_run(path))}
    assert title in found, list(found)
    return found[title]


def test_findings_about_a_run_written_by_hand(by_hand):
    low, high = proportion_confint(17, 20, alpha=0.05, method="wilson")
    sure = _finding(by_hand, "Uncertainty of the accuracy").text
    assert "17 of 20 test images are right: 85.00%" in sure
    assert f"95% interval {100 * low:.2f}% to {100 * high:.2f}% (Wilson)" in sure
    assert _finding(by_hand, "Overfitting").kind == "note"
    assert "a gap of +10.00\u00a0points" in _finding(by_hand, "Overfitting").text
    assert "lowest in epoch 2 (0.5) and 0.75 at the end" in _finding(by_hand, "The validation loss rose again").text
    assert "All 15 planned steps" in _finding(by_hand, "The schedule was used as planned").text
    attention = _finding(by_hand, "Grad-CAM marks what the prediction depends on")
    assert "layer2's maps mark lowers the predicted class's probability by 0.50" in attention.text
    assert "lowers it by 0.20. Difference 0.300, 95% interval 0.250 to 0.350, 20 test images." in attention.text
    assert "layer1: marks the wrong place." in attention.text
    assert attention.kind == "note"  # for what follows:
    assert "rank correlation 0.95): they do not depend on what that block learned" in attention.text
    classes = _finding(by_hand, "Hardest and easiest class").text
    assert "Hardest: dog, right in 66.67% of its 6 images" in classes
    assert "dog predicted as ship, 2 times" in classes
    # Mean confidence (7 x 0.99 + 0.6 + 4 x 0.9 + 0.95 + 0.7 + 6 x 0.8) / 20 = 0.879; one mistake above 0.9.
    sure = _finding(by_hand, "Confidence matches accuracy").text
    assert "Mean confidence 87.90%, accuracy 85.00%" in sure
    assert "1 of 3 mistakes" in sure
    # 39 of 50 validation images are right, 17 of 20 test images.
    low, high = confint_proportions_2indep(39, 50, 17, 20, method="newcomb")
    agree = _finding(by_hand, "Validation and test agree").text.replace("−", "-")  # noqa: RUF001
    assert f"interval {100 * low:.2f}\u00a0points to +{100 * high:.2f}\u00a0points" in agree
    labels = _finding(by_hand, "Labels to check").text
    assert "2 test labels of 20 may be wrong" in labels
    assert "the accuracy is 95.00% rather than 85.00%" in labels
    assert (
        "6\u00a0s of training and 1.5\u00a0s of evaluation" in _finding(by_hand, "Time of training and evaluation").text
    )


@pytest.mark.parametrize(("confidence", "smoothing", "title"), [
    (0.99, 0.0, "Overconfident"), (0.5, 0.2, "Underconfident"), (0.5, 0.0, "Underconfident"),
])  # fmt: skip
def test_confidence_that_does_not_match_accuracy_is_noted(by_hand, confidence, smoothing, title):
    predictions = pd.read_csv(by_hand / "predictions.csv")
    pd.concat([predictions.assign(confidence=confidence)] * 10).to_csv(by_hand / "predictions.csv", index=False)
    config = (by_hand / "config_resolved.yaml").read_text()
    config = re.sub(r"label_smoothing: .*", f"label_smoothing: {smoothing}", config)
    (by_hand / "config_resolved.yaml").write_text(config)
    finding = _finding(by_hand, title)
    assert finding.kind == "note"
    assert f"(ECE) is {abs(confidence - 0.85):.3f}" in finding.text
    assert ("label_smoothing=0.2 lowers the confidence on purpose" in finding.text) == (smoothing > 0)


def test_a_validation_accuracy_that_chance_does_not_explain_is_noted(by_hand):
    summary = pd.read_csv(by_hand / "summary.csv")
    summary.assign(val_accuracy=1.0, val_images=5_000).to_csv(by_hand / "summary.csv", index=False)
    assert _finding(by_hand, "Validation and test differ by more than chance").kind == "note"


def test_probabilities_are_those_of_the_predictions(real_run):
    predictions = pd.read_csv(real_run / "predictions.csv", dtype={"label": str, "prediction": str})
    summary = pd.read_csv(real_run / "summary.csv").iloc[0]
    with np.load(real_run / "probabilities.npz") as arrays:
        p, labels, names = arrays["probabilities"], arrays["labels"], arrays["class_names"]
    assert p.dtype == np.float32
    assert names[labels].tolist() == predictions["label"].tolist()
    assert names[p.argmax(1)].tolist() == predictions["prediction"].tolist()
    np.testing.assert_array_equal(p.max(1), predictions["confidence"])
    assert summary["brier"] == pytest.approx(metrics.brier_score_loss(labels, p, labels=range(10)), abs=1e-6)
    assert summary["top5_accuracy"] == metrics.top_k_accuracy_score(labels, p, k=5, labels=range(10))
    assert summary["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, p.argmax(1)))
    calibration = pd.read_csv(real_run / "calibration.csv")
    differences = calibration["images"] * (calibration["mean_confidence"] - calibration["accuracy"]).abs()
    assert summary["ece"] == pytest.approx(differences.sum() / len(p))
    gallery = embedded((real_run / "report.html").read_text())["data"]["gallery"]["images"]
    for one in gallery[:20]:
        assert [k for k, _ in one["top"]] == np.argsort(-p[one["index"]], kind="stable")[:5].tolist()


def test_warnings_come_first_with_a_remedy(tmp_path):
    path = write_run(tmp_path / "run", used_share=0.2, attended=0.1)
    found = findings(read_run(path))
    assert [one.kind for one in found[:2]] == ["bad", "bad"]
    assert "Only 3 of 15 planned steps" in _finding(path, "The schedule was not used").text
    assert _finding(path, "Grad-CAM marks the wrong place").kind == "bad"
    config = (path / "config_resolved.yaml").read_text().replace("interval: step", "interval: epoch")
    (path / "config_resolved.yaml").write_text(config)
    assert "scheduler.interval=step" in _finding(path, "The schedule was not used").text


def test_the_config_marks_differences_from_the_defaults(real_run):
    typed = as_containers(composed("epochs=3", "optimizer=adamw"))
    leaves = {}

    def walk(nodes, prefix=""):
        for node in nodes:
            leaves[prefix + node.key] = node
            walk(node.children, f"{prefix}{node.key}.")

    walk(config_tree(typed, default_leaves()))
    assert (leaves["epochs"].value, leaves["epochs"].default, leaves["epochs"].changed) == ("3", "20", 1)
    assert leaves["optimizer.betas"].default is None
    assert leaves["optimizer.betas"].changed == 1
    assert leaves["seed"].changed == 0
    changed = {key for key, node in leaves.items() if node.changed and not node.children}
    assert {key for key in changed if not key.startswith("optimizer.")} == {"epochs"}
    assert leaves["optimizer"].changed == len(changed) - 1
    assert sum(node.changed for node in config_tree(as_containers(composed()), default_leaves())) == 0
    assert 'class="leaf changed"' in (real_run / "report.html").read_text()


def test_composing_the_defaults_leaves_hydra_as_it_was():
    from hydra.core.global_hydra import GlobalHydra

    state = GlobalHydra.instance()
    before = state.hydra
    state.hydra = marker = object()
    try:
        default_leaves.cache_clear()
        default_leaves()
        assert state.hydra is marker
    finally:
        state.hydra = before


def test_the_command_makes_the_same_page_again(real_run, capsys):
    before = (real_run / "report.html").read_text()
    (real_run / "report.html").unlink()
    assert main.main(["report", str(real_run)]) == 0
    assert capsys.readouterr().out.strip() == str(real_run / "report.html")
    assert (real_run / "report.html").read_text() == before


def test_the_command_needs_no_torch(by_hand):
    import subprocess
    import sys

    script = "import sys; from cifar_exp.cli.main import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, "report", str(by_hand)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_the_status_of_a_page_at_the_end_is_final(real_run):
    assert json.loads((real_run / "status.json").read_text())["state"] == "completed"
    text = visible_text((real_run / "report.html").read_text())
    assert "completed" in text
    assert "cifar-exp reproduce" in text
