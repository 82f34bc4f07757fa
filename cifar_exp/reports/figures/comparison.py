"""Several runs in one picture: their curves, and a metric against the numbers that vary between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

from cifar_exp.reports.figures.style import TEST, TRAIN, VALIDATION, save, styled

# Okabe and Ito's, the darkest first; yellow is left out, for it does not show as a line.
PALETTE = (TRAIN, TEST, "#009E73", "#CC79A7", VALIDATION, "#56B4E9", "#222222")
_DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.3)))
_MOST_POINTS = 500  # of a curve; more do not show
_LABEL_LENGTH = 44
_MOST_TICKS = 10
LOG_FROM = 8.0  # ratio of largest to smallest from which an axis is logarithmic


@dataclass(frozen=True)
class Curve:
    """A run's ``metrics.csv`` and its look: runs of one group share label and look."""

    label: str
    look: int
    metrics: pd.DataFrame


@dataclass(frozen=True)
class Varied:
    """A metric against one number: the mean and interval of each group, and every run's value.

    Attributes:
        label: of the line; empty where there is only one.
        x: (groups,) the number, ascending.
        mean: (groups,).
        low: (groups,) lower end of the 95% interval; NaN where there is none.
        high: (groups,) upper end.
        runs: (x, value) of every run.
    """

    label: str
    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    runs: Sequence[tuple[float, float]]


def overlaid_curves(curves: Sequence[Curve], title: str, path: Path) -> None:
    """Training loss over the epochs, and accuracy on the validation or the test split, which more of the runs measured.

    Args:
        curves: at least one; the first is drawn on top.
        title: of the figure.
        path: of the PNG.
    """
    counts = {
        split: sum(_measured(curve.metrics, f"{split}_accuracy") for curve in curves) for split in ("val", "test")
    }
    split = "val" if counts["val"] >= counts["test"] else "test"
    without = len(curves) - counts[split]
    told = {"val": "Validation", "test": "Test"}[split] + " accuracy"
    told += f" ({without} run{'s' if without > 1 else ''} without one)" if without else ""
    with styled():
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        figure.suptitle(title, fontsize=11)
        loss, accuracy = figure.subplots(1, 2)
        named: dict[str, Any] = {}
        for order, curve in reversed(list(enumerate(curves))):
            for axes, column in ((loss, "train_loss"), (accuracy, f"{split}_accuracy")):
                if line := _line(axes, curve, column, 3 + (len(curves) - order) / len(curves)):
                    named[curve.label] = line
        loss.set(title="Training loss", ylabel="cross-entropy, nats per image", xlabel="epoch")
        accuracy.set(title=told, xlabel="epoch")
        accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
        for axes in (loss, accuracy):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.margins(x=0.05)
        labels = [label for label in dict.fromkeys(curve.label for curve in curves) if label in named]
        if len(labels) > 1:
            figure.legend(
                [named[label] for label in labels],
                [fill(label, _LABEL_LENGTH) for label in labels],
                loc="outside right upper",
                fontsize=8,
                title="best first",
                alignment="left",
            )
        save(figure, path)


def _measured(metrics: pd.DataFrame, column: str) -> bool:
    return column in metrics.columns and bool(metrics[column].notna().any())


def _line(axes: Any, curve: Curve, column: str, height: float) -> Any:
    if not _measured(curve.metrics, column):
        return None
    points = curve.metrics[["epoch", column]].dropna()
    points = points.iloc[:: max(1, len(points) // _MOST_POINTS)]
    return axes.plot(
        points["epoch"],
        points[column],
        color=PALETTE[curve.look % len(PALETTE)],
        linestyle=_DASHES[curve.look // len(PALETTE) % len(_DASHES)],
        marker="o" if len(points) <= 12 else None,
        markersize=5 if len(points) == 1 else 3.5,
        linewidth=1.5,
        alpha=0.9,
        zorder=height,
    )[0]


def line(series: Sequence[Varied], x_name: str, metric: str, path: Path) -> None:
    """The metric against the one number that varies, a line for each value of what else does.

    Args:
        series: at least one.
        x_name: of the number.
        metric: name of the column.
        path: of the PNG.
    """
    with styled():
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.subplots()
        spread = False
        for number, one in enumerate(series):
            colour = PALETTE[number % len(PALETTE)]
            known = ~np.isnan(one.low)
            spread |= bool(known.any())
            axes.errorbar(
                one.x[known],
                one.mean[known],
                yerr=(one.mean[known] - one.low[known], one.high[known] - one.mean[known]),
                fmt="none",
                ecolor=colour,
                elinewidth=1.2,
                capsize=4,
                alpha=0.7,
            )
            axes.plot(one.x, one.mean, color=colour, marker="o", markersize=5, linewidth=1.8, label=one.label)
            if spread:
                x, value = zip(*one.runs, strict=True)
                axes.scatter(x, value, s=16, facecolor="white", edgecolor=colour, linewidth=0.9, zorder=3)
        values = np.unique(np.concatenate([one.x for one in series]))
        if values[0] > 0 and values[-1] / values[0] >= LOG_FROM:
            axes.set_xscale("log")
        if len(values) <= _MOST_TICKS:
            axes.xaxis.set_major_locator(FixedLocator([float(value) for value in values]))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks(values, [f"{value:g}" for value in values])
        if metric.endswith("accuracy"):
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        told = "mean, its 95% interval (t), and each run" if spread else "one run each"
        axes.set(xlabel=x_name, ylabel=metric, title=f"{metric} by {x_name}: {told}")
        if len(series) > 1:
            figure.legend(loc="outside right upper")
        save(figure, path)


def heat_map(
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
    metric: str,
    lower_is_better: bool,
    path: Path,
) -> None:
    """The metric at every combination of two numbers. A combination that was not run is gray.

    Args:
        mean: (rows, columns), NaN where nothing was run.
        std: (rows, columns), NaN where there is only one run.
        rows: name and values of the number that varies from row to row.
        columns: name and values of the other.
        metric: name of the column.
        lower_is_better: dark is always good.
        path: of the PNG.
    """
    with styled():
        size = (2.6 + max(1.0 * mean.shape[1], 2.4), 1.6 + max(0.55 * mean.shape[0], 1.4))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        drawn = axes.imshow(mean, cmap="Blues_r" if lower_is_better else "Blues", aspect="auto")
        axes.set_xticks(range(mean.shape[1]), list(columns[1]))
        axes.set_yticks(range(mean.shape[0]), list(rows[1]))
        axes.set(xlabel=columns[0], ylabel=rows[0], facecolor="#d9d9d9")  # gray shows where nothing was run
        axes.grid(visible=False)
        best = np.nanmin(mean) if lower_is_better else np.nanmax(mean)
        for row, column in np.argwhere(~np.isnan(mean)):
            value = mean[row, column]
            dark = float(sum(drawn.cmap(drawn.norm(value))[:3])) < 1.6
            axes.text(
                column,
                row,
                _in_cell(value, std[row, column], metric),
                ha="center",
                va="center",
                fontsize=8,
                fontweight="bold" if value == best else "normal",
                color="white" if dark else "#222222",
            )
        spread = " (mean ± standard deviation)" if (~np.isnan(std)).any() else ""
        figure.suptitle(f"{metric}{spread}; the best in bold", fontsize=10, fontweight="bold")
        bar = figure.colorbar(drawn, ax=axes, shrink=0.9)
        if metric.endswith("accuracy"):
            bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        save(figure, path)


def _in_cell(value: float, std: float, metric: str) -> str:
    if metric.endswith("accuracy"):
        return f"{100 * value:.2f}%" + ("" if np.isnan(std) else f"\n± {100 * std:.2f}")
    return f"{value:.4g}" + ("" if np.isnan(std) else f"\n± {std:.2g}")
