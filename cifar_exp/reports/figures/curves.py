"""Curves over the epochs, and the learning rate over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from cifar_exp.reports.figures.style import TEST, TRAIN, VALIDATION, new_figure

if TYPE_CHECKING:  # importing it would load torch
    from cifar_exp.training.schedule import ScheduleUse

_SERIES = (("train", "train", TRAIN), ("val", "validation", VALIDATION), ("test", "test", TEST))
_MOST_POINTS = 4_000  # more are not visible, and take seconds to draw


def draw_curves(metrics: pd.DataFrame, title: str, path: Path) -> None:
    """Draw loss and accuracy of train, validation and test over the epochs, with the final gap in the title."""
    with new_figure(path, 10, 4.0) as figure:
        figure.suptitle(title, fontsize=11)
        loss, accuracy = figure.subplots(1, 2)
        for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
            for key, label, colour in _SERIES:
                _series(axes, metrics, f"{key}_{quantity}", label, colour)
            axes.set(xlabel="epoch", title=quantity.capitalize())
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.margins(x=0.04, y=0.08)
            if len(metrics) == 1:
                axes.set_xlim(0.5, 1.5)
        loss.set(ylabel="cross-entropy, nats per image", ylim=(0, loss.get_ylim()[1]))
        loss.legend()
        accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        accuracy.legend(loc="best")
        last = metrics.iloc[-1]
        for key, name, _ in reversed(_SERIES[1:]):
            if pd.notna(gap := last["train_accuracy"] - last[f"{key}_accuracy"]):
                accuracy.set_title(f"Accuracy (gap train - {name}: {100 * gap:+.2f} points)")
                break


def _series(axes: Any, metrics: pd.DataFrame, column: str, label: str, colour: str) -> None:
    points = metrics[["epoch", column]].dropna()
    if points.empty:
        return
    last = points[column].iloc[-1]
    axes.plot(
        points["epoch"],
        points[column],
        color=colour,
        label=f"{label}: {f'{last:.2%}' if column.endswith('accuracy') else f'{last:.3f}'} at the end",
        marker="o" if len(points) <= 30 else None,
        markersize=6 if len(points) == 1 else 3.5,
        linewidth=1.8,
    )


def draw_learning_rate(planned: NDArray[np.float64], steps: pd.DataFrame, use: ScheduleUse, path: Path) -> None:
    """Draw the planned learning rate against the one that the optimizer used."""
    used = steps["learning_rate"].to_numpy()
    with new_figure(path, 8, 3.6) as figure:
        axes = figure.subplots()
        solid = {"color": TRAIN, "linewidth": 3.5, "alpha": 0.7}
        dashed = {"color": "black", "linewidth": 1.2, "linestyle": (0, (4, 4))}
        for name, x, y, look in (
            ("used", steps["step"].to_numpy(), used, solid),
            ("planned", np.arange(1, len(planned) + 1), planned, dashed),
        ):
            every = max(1, len(x) // _MOST_POINTS)
            axes.plot(x[::every], y[::every], label=f"{name}: peak {y.max():.4g}, end {y[-1]:.2g}", **look)
        axes.set(ylim=(0, 1.08 * max(planned.max(), used.max())), xlabel="optimizer step", ylabel="learning rate")
        if use.complete:
            axes.set_title("Learning rate: used as planned")
        else:
            axes.set_title(f"Learning rate: {use.used:,} of {use.planned:,} planned steps were used", color=TEST)
        axes.legend(loc="best")
