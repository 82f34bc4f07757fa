"""Several runs in one figure: their curves, and a metric against the numbers that vary between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter

from cifar_exp.reports.figures.style import DARK, PALETTE, new_figure

_DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.3)))
_LABEL_LENGTH = 44
_MOST_TICKS = 10
LOG_FROM = 8.0  # ratio of largest to smallest value from which an axis is logarithmic

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """The curves of a run by epoch. Runs of a group share label and look (the number of colour and dash)."""

    label: str
    look: int
    loss: Points
    accuracy: Points


def overlaid_curves(curves: Sequence[Curve], titles: tuple[str, str], path: Path) -> None:
    """Training loss and accuracy over the epochs, the first curve on top; titles of the figure and of the accuracy."""
    with new_figure(path, 11, 4.2) as figure:
        figure.suptitle(titles[0], fontsize=11)
        axes_of_loss, axes_of_accuracy = figure.subplots(1, 2)
        drawn: dict[str, Any] = {}
        for order, curve in reversed(list(enumerate(curves))):
            for axes, points in ((axes_of_loss, curve.loss), (axes_of_accuracy, curve.accuracy)):
                if points:
                    height = 3 + (len(curves) - order) / len(curves)
                    [drawn[curve.label]] = axes.plot(*zip(*points, strict=True), zorder=height, **_style(curve, points))
        axes_of_loss.set(title="Training loss", ylabel="cross-entropy, nats per image")
        axes_of_accuracy.set(title=titles[1])
        axes_of_accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
        for axes in (axes_of_loss, axes_of_accuracy):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.margins(x=0.05)
        labels = [label for label in dict.fromkeys(curve.label for curve in curves) if label in drawn]
        if len(labels) > 1:
            names = [fill(label, _LABEL_LENGTH) for label in labels]
            place = {"loc": "outside right upper", "fontsize": 8, "title": "best first", "alignment": "left"}
            figure.legend([drawn[label] for label in labels], names, **place)


def _style(curve: Curve, points: Points) -> dict[str, Any]:
    return {
        "color": PALETTE[curve.look % len(PALETTE)],
        "linestyle": _DASHES[curve.look // len(PALETTE) % len(_DASHES)],
        "marker": "o" if len(points) <= 12 else None,
        "markersize": 5 if len(points) == 1 else 3.5,
        "linewidth": 1.5,
        "alpha": 0.9,
    }


def line(series: dict[str, tuple[pd.DataFrame, pd.DataFrame]], x_name: str, metric: str, path: Path) -> None:
    """The metric against the one number that varies.

    ``series`` has at least one line: by its label, its groups (``x`` ascending, ``mean``, ``interval_low`` and
    ``interval_high``, NaN without an interval) and their runs (``x``, ``value``).
    """
    spread = any(groups["interval_low"].notna().any() for groups, _ in series.values())
    with new_figure(path, 7.5, 4.2) as figure:
        axes = figure.subplots()
        for number, (label, (groups, runs)) in enumerate(series.items()):
            colour = PALETTE[number % len(PALETTE)]
            known = groups.dropna(subset=["interval_low"])
            ends = (known["mean"] - known["interval_low"], known["interval_high"] - known["mean"])
            bars = {"fmt": "none", "ecolor": colour, "elinewidth": 1.2, "capsize": 4, "alpha": 0.7}
            axes.errorbar(known["x"], known["mean"], ends, **bars)
            axes.plot(groups["x"], groups["mean"], color=colour, marker="o", markersize=5, linewidth=1.8, label=label)
            if spread:
                points = {"facecolor": "white", "edgecolor": colour, "linewidth": 0.9, "zorder": 3}
                axes.scatter(runs["x"], runs["value"], s=16, **points)
        values = np.unique(np.concatenate([groups["x"] for groups, _ in series.values()]))
        if values[0] > 0 and values[-1] / values[0] >= LOG_FROM:
            axes.set_xscale("log")
        if len(values) <= _MOST_TICKS:
            axes.xaxis.set_major_locator(FixedLocator(list(values)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks(values, [f"{value:g}" for value in values])
        if metric.endswith("accuracy"):
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        shown = "mean, its 95% interval (t), and each run" if spread else "one run each"
        axes.set(xlabel=x_name, ylabel=metric, title=f"{metric} by {x_name}: {shown}")
        if len(series) > 1:
            figure.legend(loc="outside right upper")


def heat_map(mean: pd.DataFrame, std: pd.DataFrame, metric: str, lower_is_better: bool, path: Path) -> None:
    """The metric at every combination of two numbers. A combination without runs is gray.

    ``mean`` has a row and a column for each value of the two numbers, which its axes name, and NaN without runs;
    ``std`` has NaN for a single run.
    """
    values, spread = mean.to_numpy(), std.to_numpy()
    with new_figure(path, 2.6 + max(1.0 * values.shape[1], 2.4), 1.6 + max(0.55 * values.shape[0], 1.4)) as figure:
        axes = figure.subplots()
        drawn = axes.imshow(values, cmap="Blues_r" if lower_is_better else "Blues", aspect="auto")
        axes.set_xticks(range(values.shape[1]), [f"{value:g}" for value in mean.columns])
        axes.set_yticks(range(values.shape[0]), [f"{value:g}" for value in mean.index])
        axes.set(xlabel=mean.columns.name, ylabel=mean.index.name, facecolor="#d9d9d9")
        axes.grid(visible=False)
        best = np.nanmin(values) if lower_is_better else np.nanmax(values)
        for row, column in np.argwhere(~np.isnan(values)):
            value = values[row, column]
            dark = float(sum(drawn.cmap(drawn.norm(value))[:3])) < 1.6
            look = {"fontweight": "bold" if value == best else "normal", "color": "white" if dark else DARK}
            text = _cell_text(value, spread[row, column], metric)
            axes.text(column, row, text, ha="center", va="center", fontsize=8, **look)
        note = "" if np.isnan(spread).all() else " (mean ± standard deviation)"
        figure.suptitle(f"{metric}{note}; the best in bold", fontsize=10, fontweight="bold")
        bar = figure.colorbar(drawn, ax=axes, shrink=0.9)
        if metric.endswith("accuracy"):
            bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))


def _cell_text(value: float, std: float, metric: str) -> str:
    if metric.endswith("accuracy"):
        return f"{100 * value:.2f}%" + ("" if np.isnan(std) else f"\n± {100 * std:.2f}")
    return f"{value:.4g}" + ("" if np.isnan(std) else f"\n± {std:.2g}")
