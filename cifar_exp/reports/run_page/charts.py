"""The charts of a run's page, from its tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cifar_exp.reports.html.charts import Chart, Line, heat_map, lines
from cifar_exp.reports.html.formats import integer, number, percent
from cifar_exp.reports.run_page.calibration_charts import confidences, reliability
from cifar_exp.reports.run_page.findings_predictions import confusion_counts, most_confused
from cifar_exp.run_dir.read import RunDirectory

_SPLITS = (
    ("train", "train", "var(--train)", "solid", "circle"),
    ("val", "validation", "var(--validation)", "dashed", "rect"),
    ("test", "test", "var(--test)", "dotted", "diamond"),
)
_MOST_POINTS = 800  # of a line by step; more do not show
_MOST_EPOCHS = 2_000
_MOST_NUMBERS = 20  # classes up to which the cells' counts are written into them


def run_charts(run: RunDirectory) -> dict[str, Chart]:
    """The charts for which there are numbers, by name."""
    made: dict[str, Chart | None] = {
        "loss": _by_epoch(run, "loss", "nats per image", "number"),
        "accuracy": _by_epoch(run, "accuracy", "", "percent"),
        "learning_rate": _learning_rate(run),
        "step_loss": _step_loss(run),
        "confusion": _confusion(run),
        "reliability": reliability(run),
        "confidences": confidences(run),
    }
    return {name: chart for name, chart in made.items() if chart is not None}


def _by_epoch(run: RunDirectory, quantity: str, unit: str, y_format: str) -> Chart | None:
    if run.metrics is None:
        return None
    told, drawn = [], []
    show = percent if y_format == "percent" else number
    for key, name, colour, dash, symbol in _SPLITS:
        column = f"{key}_{quantity}"
        if column not in run.metrics.columns:
            continue
        points = run.metrics[["epoch", column]].dropna()
        if points.empty:
            continue
        drawn.append(Line(name, _pairs(points, _MOST_EPOCHS), colour, dash, symbol))
        first, last = points.iloc[0], points.iloc[-1]
        told.append(
            f"{name} from {show(first[column])} in epoch {integer(first['epoch'])} to {show(last[column])} "
            f"in epoch {integer(last['epoch'])}"
            if len(points) > 1
            else f"{name} {show(last[column])} in epoch {integer(last['epoch'])}"
        )
    if not drawn:
        return None
    description = f"{quantity.capitalize()} over the epochs: {'; '.join(told)}."
    return lines(
        drawn, description, x_name="epoch", y_name=unit, y_format=y_format, from_zero=quantity == "loss", height=310
    )


def _learning_rate(run: RunDirectory) -> Chart | None:
    drawn, told = [], []
    # The plan lies on top, dashed: where it hides nothing, both are the same.
    for table, name, colour, dash, width in (
        (run.steps, "used", "var(--train)", "solid", 4.0),
        (run.schedule, "planned", "var(--text)", "dashed", 1.5),
    ):
        if table is None or table["learning_rate"].isna().all():
            continue
        points = table[["step", "learning_rate"]].dropna()
        drawn.append(Line(name, _pairs(points, _MOST_POINTS), colour, dash, "none", width))
        told.append(f"{name}: {len(points):,} steps, peak {points['learning_rate'].max():.4g}")
    if not drawn:
        return None
    description = f"Learning rate by optimizer step; {'; '.join(told)}."
    return lines(drawn, description, x_name="optimizer step", y_name="", y_format="rate", from_zero=True, height=310)


def _step_loss(run: RunDirectory) -> Chart | None:
    if run.steps is None:
        return None
    points = run.steps[["step", "loss"]].dropna()
    points = points[np.isfinite(points["loss"])]
    if len(points) < 2:
        return None
    size = -(-len(points) // _MOST_POINTS)
    mean = points.groupby(np.arange(len(points)) // size).agg({"step": "last", "loss": "mean"})
    window = max(5, len(mean) // 40)
    smooth = mean["loss"].rolling(window, min_periods=1, center=True).mean()
    name = "each step" if size == 1 else f"mean of {size} steps"
    drawn = [
        Line(name, _pairs(mean, _MOST_POINTS), "var(--train)", symbol="none", faint=True),
        Line(
            f"running mean of {window * size}",
            list(zip(mean["step"], smooth, strict=True)),
            "var(--train)",
            symbol="none",
        ),
    ]
    description = (
        f"Training loss of each optimizer step: {number(points['loss'].iloc[0])} at first, "
        f"{number(points['loss'].iloc[-1])} at the end of {len(points):,} steps."
    )
    return lines(drawn, description, x_name="optimizer step", y_name="nats per image", from_zero=True, height=310)


def _confusion(run: RunDirectory) -> Chart | None:
    if run.confusion is None:
        return None
    counts, names = confusion_counts(run.confusion), run.class_names
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    total, right = int(counts.sum()), int(np.trace(counts))
    description = f"Confusion matrix of {len(names)} classes: {right:,} of {total:,} test images on the diagonal."
    if (pair := most_confused(run)) is not None:
        description += f" The most frequent mistake is {pair[0]} taken for {pair[1]}, {pair[2]:,} times."
    few = len(names) <= _MOST_NUMBERS
    # Square-root shading: errors of a few per cent stay visible beside a diagonal of ninety. Totals have no shade.
    shade = np.sqrt(shares)
    if few:
        counts = np.block([[counts, counts.sum(axis=1, keepdims=True)], [counts.sum(axis=0), total]])
        shade = np.pad(shade, (0, 1), constant_values=np.nan)
        names = [*names, "total"]
    labels = [[f"{count:,}" if count else "" for count in row] for row in counts] if few else None
    return heat_map(
        counts.astype(np.float64),
        names,
        names,
        description,
        row_name="true class",
        column_name="predicted class",
        labels=labels,
        shade=shade,
        value_format="integer",
        value_name="images",
        height=int(np.clip(120 + 40 * len(names), 340, 620)),
    )


def _pairs(table: pd.DataFrame, most: int) -> Sequence[tuple[float, float | None]]:
    """Points of the first two columns, evenly thinned; the last one stays."""
    every = -(-len(table) // most)
    kept = table.iloc[::every]
    if len(table) and kept.index[-1] != table.index[-1]:
        kept = pd.concat([kept, table.iloc[[-1]]])
    values: Any = kept.to_numpy(dtype=np.float64)
    return [(float(x), float(y)) for x, y in values]
