"""The charts of a run's page, from its tables."""

from itertools import pairwise

import numpy as np
import pandas as pd

from cifar_exp.reports.html.formats import integer, number, percent
from cifar_exp.reports.html.parts import Chart, Line, lines, thinned
from cifar_exp.reports.run_page.findings_predictions import confusion_counts, most_confused
from cifar_exp.run_dir.read import RunDirectory

_SPLITS = (
    ("train", "train", "train", "solid", "circle"),
    ("val", "validation", "validation", "dashed", "rect"),
    ("test", "test", "test", "dotted", "diamond"),
)
_MOST_POINTS = 800  # of a line by step; more are not visible
_MOST_EPOCHS = 2_000
_BINS = 20  # of the histogram of confidences
_MOST_NUMBERS = 20  # classes up to which the cells contain their counts


def run_charts(run: RunDirectory) -> dict[str, Chart | None]:
    """The charts by name; None if the run has no records for one."""
    return {
        "loss": _by_epoch(run, "loss", "nats per image", "number"),
        "accuracy": _by_epoch(run, "accuracy", "", "percent"),
        "learning_rate": _learning_rate(run),
        "step_loss": _step_loss(run),
        "confusion": _confusion(run),
        "reliability": _reliability(run),
        "confidences": _confidences(run),
    }


def _by_epoch(run: RunDirectory, quantity: str, unit: str, y_format: str) -> Chart | None:
    described, drawn = [], []
    written = percent if y_format == "percent" else number
    for key, name, colour, dash, symbol in _SPLITS:
        column = f"{key}_{quantity}"
        if run.metrics is None or column not in run.metrics:
            continue
        points = run.metrics[["epoch", column]].dropna()
        if points.empty:
            continue
        drawn.append(Line(name, thinned(points.to_numpy(), _MOST_EPOCHS), colour, dash, symbol))
        first, last = (
            f"{written(points[column].iloc[i])} in epoch {integer(points['epoch'].iloc[i])}" for i in (0, -1)
        )
        described.append(f"{name} from {first} to {last}" if len(points) > 1 else f"{name} {last}")
    if not drawn:
        return None
    description = f"{quantity.capitalize()} over the epochs: {'; '.join(described)}."
    return lines(drawn, description, x_name="epoch", y_name=unit, y_format=y_format, from_zero=quantity == "loss")


def _learning_rate(run: RunDirectory) -> Chart | None:
    drawn, described = [], []
    # The plan lies on top, dashed, so that both are visible where they are the same.
    for table, name, colour, dash, width in (
        (run.steps, "used", "train", "solid", 4.0),
        (run.schedule, "planned", "text", "dashed", 1.5),
    ):
        if table is None or table["learning_rate"].isna().all():
            continue
        points = table[["step", "learning_rate"]].dropna()
        drawn.append(Line(name, thinned(points.to_numpy(), _MOST_POINTS), colour, dash, "none", width))
        described.append(f"{name}: {len(points):,} steps, peak {points['learning_rate'].max():.4g}")
    if not drawn:
        return None
    description = f"Learning rate by optimizer step; {'; '.join(described)}."
    return lines(drawn, description, x_name="optimizer step", y_name="", y_format="rate", from_zero=True)


def _step_loss(run: RunDirectory) -> Chart | None:
    points = pd.DataFrame() if run.steps is None else run.steps[["step", "loss"]].dropna()
    if len(points) < 2:
        return None
    size = -(-len(points) // _MOST_POINTS)
    mean = points.groupby(np.arange(len(points)) // size).agg({"step": "last", "loss": "mean"})
    window = max(5, len(mean) // 40)
    smooth = mean.assign(loss=mean["loss"].rolling(window, min_periods=1, center=True).mean())
    name = "each step" if size == 1 else f"mean of {size} steps"
    drawn = [
        Line(name, thinned(mean.to_numpy(), _MOST_POINTS), "train", symbol="none", faint=True),
        Line(f"running mean of {window * size}", thinned(smooth.to_numpy(), _MOST_POINTS), "train", symbol="none"),
    ]
    description = (
        f"Training loss of each optimizer step: {number(points['loss'].iloc[0])} at first, "
        f"{number(points['loss'].iloc[-1])} at the end of {len(points):,} steps."
    )
    return lines(drawn, description, x_name="optimizer step", y_name="nats per image", from_zero=True)


def _confusion(run: RunDirectory) -> Chart | None:
    if run.confusion is None:
        return None
    counts, names = confusion_counts(run.confusion), run.class_names
    total, right = int(counts.sum()), int(np.trace(counts))
    description = f"Confusion matrix of {len(names)} classes: {right:,} of {total:,} test images on the diagonal."
    if (pair := most_confused(run)) is not None:
        description += f" The most frequent mistake is {pair[0]} predicted as {pair[1]}, {pair[2]:,} times."
    # Square-root shading: errors of a few per cent stay visible beside a diagonal of ninety. Totals have no shade.
    shade = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    labels = None
    if len(names) <= _MOST_NUMBERS:
        counts = np.block([[counts, counts.sum(axis=1, keepdims=True)], [counts.sum(axis=0), total]])
        shade = np.pad(shade, (0, 1), constant_values=np.nan)
        names = [*names, "total"]
        labels = [[f"{count:,}" if count else "" for count in row] for row in counts]
    data = {"values": counts.astype(np.float64), "labels": labels, "shade": shade}
    data |= {"value_name": "images", "format": "integer", "row_name": "true class", "rows": names}
    data |= {"column_name": "predicted class", "columns": names}
    return Chart("heat_map", data, description, height=int(np.clip(120 + 40 * len(names), 340, 620)))


def _reliability(run: RunDirectory) -> Chart | None:
    """Accuracy by confidence for the groups of ``calibration.csv``, with a 95% interval each."""
    columns = ["mean_confidence", "accuracy", "accuracy_low", "accuracy_high", "images"]
    rows = None if run.calibration is None else run.calibration[columns].dropna()
    if rows is None or rows.empty:
        return None
    points = rows.to_numpy(dtype=np.float64)
    start = np.floor(10 * np.clip(points[:, :3].min() - 0.03, 0, 0.95)) / 10
    first, last = points[0], points[-1]
    description = (
        f"Accuracy by confidence in {len(points)} groups of equal size: from {percent(first[1])} right at "
        f"{percent(first[0])} mean confidence to {percent(last[1])} right at {percent(last[0])}."
    )
    return Chart("reliability", {"points": points, "start": start}, description, height=340)


def _confidences(run: RunDirectory) -> Chart | None:
    """The distribution of confidence among right and among wrong predictions."""
    if run.predictions is None or not run.predictions["confidence"].between(0, 1).all():
        return None
    confidence, correct = run.predictions["confidence"], run.predictions["correct"]
    edges = np.linspace(0, 1, _BINS + 1)
    first = min(int(confidence.min() * _BINS), _BINS - 1)
    bars = []
    for inside, name, colour in ((correct, "right", "right"), (~correct, "wrong", "wrong")):
        counts = np.histogram(confidence[inside], bins=edges)[0]
        values = counts[first:] / max(int(counts.sum()), 1)
        bars.append({"name": f"{name} ({integer(counts.sum())})", "values": values, "colour": colour})
    categories = [f"{100 * low:.0f}-{100 * high:.0f}%" for low, high in pairwise(edges)][first:]
    data = {"bars": bars, "categories": categories, "x_name": "confidence", "y_name": "", "format": "percent"}
    description = (
        f"Confidences: mean {percent(confidence[correct].mean())} of the {integer(correct.sum())} right predictions, "
        f"{percent(confidence[~correct].mean())} of the {integer((~correct).sum())} wrong ones."
    )
    return Chart("bars", data, description)
