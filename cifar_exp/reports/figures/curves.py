"""Curves over the epochs and the learning rate over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from cifar_exp.reports.figures.style import TEST, TRAIN, VALIDATION, save, styled

if TYPE_CHECKING:  # importing it would load torch, which whoever only compares runs does not need
    from cifar_exp.training.schedule import ScheduleUse

_SERIES = (("train", "train", TRAIN), ("val", "validation", VALIDATION), ("test", "test", TEST))
_MOST_POINTS = 4_000  # more do not show on a figure, and take seconds to draw


def curves(metrics: pd.DataFrame, title: str, path: Path) -> None:
    """Loss and accuracy of train, validation and test over the epochs, with the gap named.

    Args:
        metrics: the content of ``metrics.csv``, at least one row.
        title: of the figure.
        path: of the PNG.
    """
    with styled():
        figure = Figure(figsize=(10, 4.0), layout="constrained")
        figure.suptitle(title, fontsize=11)
        for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for key, label, colour in _SERIES:
                _series(axes, metrics, f"{key}_{quantity}", label, colour)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.margins(x=0.04, y=0.08)
            if len(metrics) == 1:
                axes.set_xlim(0.5, 1.5)
        loss, accuracy = figure.axes
        loss.set_title("Loss")
        loss.set_ylabel("cross-entropy, nats per image")
        top = loss.get_ylim()[1]
        loss.set_ylim(0, top)
        loss.legend()
        accuracy.set_title("Accuracy")
        accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        accuracy.legend(loc="best")
        _name_the_gap(accuracy, metrics)
        save(figure, path)


def _series(axes: Any, metrics: pd.DataFrame, column: str, label: str, colour: str) -> None:
    points = metrics[["epoch", column]].dropna()
    if len(points) == 0:
        return
    lonely = len(points) <= 3  # the test split is measured once, a line of one point is invisible
    axes.plot(
        points["epoch"],
        points[column],
        color=colour,
        label=f"{label}: {_value(column, points[column].iloc[-1])} at the end",
        marker="o" if lonely or len(points) <= 30 else None,
        markersize=6 if len(points) == 1 else 3.5,
        linewidth=1.8,
    )


def _value(column: str, value: float) -> str:
    return f"{value:.2%}" if column.endswith("accuracy") else f"{value:.3f}"


def _name_the_gap(axes: Any, metrics: pd.DataFrame) -> None:
    """Name the difference between train and test (or else validation) accuracy at the end."""
    last = metrics.iloc[-1]
    other, name = next(
        (
            (last[f"{key}_accuracy"], label)
            for key, label, _ in reversed(_SERIES[1:])
            if pd.notna(last[f"{key}_accuracy"])
        ),
        (None, ""),
    )
    if other is None or pd.isna(last["train_accuracy"]):
        return
    points = 100 * (last["train_accuracy"] - other)
    axes.set_title(f"Accuracy (gap train - {name}: {points:+.2f} points)")


def learning_rate(planned: NDArray[np.float64], steps: pd.DataFrame, use: ScheduleUse, path: Path) -> None:
    """The learning rate that the schedule planned against the one that the optimizer used.

    Args:
        planned: (total_steps,) by step.
        steps: the content of ``steps.csv``, at least one row.
        use: what the two have to do with each other.
        path: of the PNG.
    """
    with styled():
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axes = figure.subplots()
        every = max(1, len(steps) // _MOST_POINTS)
        used = steps["learning_rate"]
        axes.plot(
            steps["step"][::every],
            used[::every],
            color=TRAIN,
            linewidth=3.5,
            alpha=0.7,
            label=f"used: peak {used.max():.4g}, end {used.iloc[-1]:.2g}",
        )
        every = max(1, len(planned) // _MOST_POINTS)
        axes.plot(
            np.arange(1, len(planned) + 1)[::every],
            planned[::every],
            color="black",
            linestyle=(0, (4, 4)),
            linewidth=1.2,
            label=f"planned: peak {planned.max():.4g}, end {planned[-1]:.2g}",
        )
        axes.set_ylim(0, 1.08 * max(float(planned.max()), float(used.max())))
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("learning rate")
        if use.complete:
            axes.set_title("Learning rate: used as planned")
        else:
            axes.set_title(f"Learning rate: {use.used:,} of {use.planned:,} planned steps were used", color=TEST)
        axes.legend(loc="best")
        save(figure, path)
