"""`cifar-exp compare` on runs that were trained, against numbers computed from their files by other means."""

import base64
import csv
import io
import math
import re
import statistics
from functools import partial

import numpy as np
import pytest
from composing import TINY, composed
from PIL import Image
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from cifar_exp.cli.commands import run_command
from cifar_exp.data import load
from cifar_exp.runner import run

main = partial(run_command, "compare")

SEEDS, LEARNING_RATES = (0, 1, 2), (0.01, 0.2)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Three seeds at two learning rates, compared: the folder of the runs and that of the comparison."""
    folder = tmp_path_factory.mktemp("sweep")
    for max_lr in LEARNING_RATES:
        for seed in SEEDS:
            overrides = (
                f"seed={seed}",
                f"max_lr={max_lr}",
                "epochs=1",
                "explain.images=0",
                "batch_size=32",
                "threads=1",
                "report=true",
            )
            run(
                composed(*TINY, *overrides, "model.width=8", "data.limit_train=600"),
                folder / "runs" / f"{max_lr}-{seed}",
            )
    assert (
        main(
            [
                str(folder / "runs"),
                "--out",
                str(folder / "out"),
                "--baseline",
                str(folder / "runs/0.2-0"),
                "--metric",
                "test_accuracy",
            ]
        )
        == 0
    )
    return folder / "runs", folder / "out"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def accuracy(directory):
    right = [row["label"] == row["prediction"] for row in rows(directory / "predictions.csv")]
    return sum(right) / len(right)


def test_order_and_groups_are_those_of_the_predictions(sweep):
    runs, out = sweep
    expected = sorted((accuracy(directory) for directory in runs.iterdir()), reverse=True)
    assert [float(row["test_accuracy"]) for row in rows(out / "comparison.csv")] == expected
    groups = {float(row["config.max_lr"]): row for row in rows(out / "groups.csv")}
    assert set(groups) == set(LEARNING_RATES)
    for max_lr, group in groups.items():
        values = [accuracy(runs / f"{max_lr}-{seed}") for seed in SEEDS]
        mean, std = statistics.fmean(values), statistics.stdev(values)
        half = 4.302652729911 * std / math.sqrt(3)  # the 0.975 quantile of t with 2 degrees of freedom, from a table
        found = [float(group[name]) for name in ("n", "mean", "std", "interval_low", "interval_high")]
        assert found == pytest.approx([3, mean, std, mean - half, mean + half])


def test_pairs_are_statsmodels(sweep):
    runs, out = sweep
    found = rows(out / "pairs.csv")
    assert len(found) == 5
    a = np.array([row["correct"] == "True" for row in rows(runs / "0.2-0" / "predictions.csv")])
    expected = []
    for pair in found:
        directory = runs / pair["run_b"].rsplit("/", 1)[1]
        b = np.array([row["correct"] == "True" for row in rows(directory / "predictions.csv")])
        table = np.array([[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]])
        counts = [int(pair[name]) for name in ("both_correct", "only_a", "only_b", "both_wrong")]
        assert counts == table.ravel().tolist()
        assert float(pair["accuracy_difference"]) == pytest.approx(b.mean() - a.mean())
        expected.append(mcnemar(table, exact=True).pvalue)
    assert [float(pair["p_value"]) for pair in found] == pytest.approx(expected)
    corrected = multipletests(expected, method="holm")[1]
    assert [float(pair["p_value_corrected"]) for pair in found] == pytest.approx(corrected)


def test_only_the_learning_rate_and_the_seed_differ(sweep):
    columns = rows(sweep[1] / "comparison.csv")[0]
    assert [name for name in columns if name.startswith("config.")] == ["config.seed", "config.max_lr"]


def test_figures_and_page_show_the_images(sweep):
    runs, out = sweep
    assert {path.name for path in (out / "figures").iterdir()} == {"curves.png", "line.png", "fixed_and_broken.png"}
    with Image.open(out / "figures/fixed_and_broken.png") as image:
        assert min(image.size) > 600, "a figure without galleries is lower"
    by_index = load(composed(*TINY).data).test.images[:, :, :, 0]
    wrong = {name: {int(row["index"]) for row in rows(runs / name / "predictions.csv") if row["correct"] == "False"}
             for name in ("0.2-0", "0.01-0", "0.01-1", "0.01-2")}  # fmt: skip
    shown = re.findall(r'class="pixels" src="data:image/png;base64,([^"]+)"', (out / "comparison.html").read_text())
    assert shown
    for text in shown:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
        [index] = np.flatnonzero((by_index == pixels).all(axis=(1, 2)))
        assert any((index in wrong["0.2-0"]) != (index in wrong[name]) for name in wrong)
