"""The curve of a learning-rate range test, alone and under what runs at those learning rates reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from cifar_exp.reports.figures.comparison import PALETTE
from cifar_exp.reports.figures.style import GRAY, TEST, TRAIN, save, styled
from cifar_exp.training.lr_curve import RangeCurve

_MOST_CURVES = 5
_MARGIN = 4.0  # factor of learning rates beyond those of the runs, on both sides
_MANY_DECADES = 1e4  # from where on ticks between the powers of ten would run into each other
_ROOM = 0.6  # above where the loss starts, as a part of its fall; a divergence goes beyond


def range_test(curve: RangeCurve, title: str, path: Path) -> None:
    """Loss by learning rate, with the suggested one marked.

    Args:
        curve: at least one step.
        title: of the experiment.
        path: of the PNG.
    """
    suggestion = curve.suggest()
    with styled():
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(curve.learning_rates, curve.losses, color=TRAIN, linewidth=0.8, alpha=0.35, label="loss of a batch")
        axes.plot(curve.learning_rates, curve.smoothed, color=TRAIN, linewidth=2, label="smoothed loss")
        low, high = curve.learning_rates[0], curve.learning_rates[-1]
        _learning_rate_axis(axes, low / 1.3, high * 1.3)
        axes.set(xlabel="learning rate", ylabel="training loss, nats per image")
        _cut_off(axes, curve, np.array(curve.losses))
        told = "no suggestion"
        if suggestion.max_lr is not None and suggestion.lowest is not None:
            told = f"max_lr {suggestion.max_lr:g} suggested"
            axes.axvline(
                suggestion.max_lr, color=TEST, linewidth=1.6, label=f"{suggestion.max_lr:g}: half of the fall is done"
            )
            axes.axvline(
                suggestion.lowest,
                color=GRAY,
                linewidth=1.2,
                linestyle=(0, (4, 3)),
                label=f"{suggestion.lowest:.2g}: the smoothed loss is lowest",
            )
        axes.set_title(f"{title}: range test, {told}")
        axes.legend(loc="best")
        save(figure, path)


@dataclass(frozen=True)
class MeasuredAt:
    """A metric of runs that differ by their learning rate and seed only.

    Attributes:
        label: of the line; empty where there is only one.
        max_lr: (runs,).
        value: (runs,).
        found: (runs,) whether a range test chose the learning rate.
    """

    label: str
    max_lr: NDArray[np.float64]
    value: NDArray[np.float64]
    found: NDArray[np.bool_]


def over_range_tests(series: Sequence[MeasuredAt], curves: Sequence[RangeCurve], metric: str, path: Path) -> None:
    """What runs reached by their learning rate, over the loss of range tests, whose axis is on the right.

    Args:
        series: at least one.
        curves: at least one.
        metric: name of the column.
        path: of the PNG.
    """
    with styled():
        figure = Figure(figsize=(8.5, 4.6), layout="constrained")
        axes = figure.subplots()
        behind = axes.twinx()
        axes.set_zorder(behind.get_zorder() + 1)
        axes.patch.set_visible(False)
        for number, curve in enumerate(curves[:_MOST_CURVES]):
            suggested = curve.suggest().max_lr
            name = "range test" if len(curves) == 1 else f"range tests ({min(len(curves), _MOST_CURVES)})"
            behind.plot(curve.learning_rates, curve.smoothed, color=GRAY, linewidth=1.6, alpha=0.7)
            axes.plot([], [], color=GRAY, linewidth=1.6, label=None if number else f"{name}: smoothed loss (right)")
            if suggested is not None:
                axes.axvline(
                    suggested,
                    color=GRAY,
                    linewidth=1.1,
                    linestyle=(0, (4, 3)),
                    label=f"suggested: {suggested:g}",
                )
        for number, one in enumerate(series):
            colour = PALETTE[number % len(PALETTE)]
            x, where = np.unique(one.max_lr, return_inverse=True)
            mean = np.bincount(where, one.value) / np.bincount(where)
            axes.plot(x, mean, color=colour, linewidth=1.8, label=one.label or metric)
            for marker, size, which in (("o", 26, ~one.found), ("*", 120, one.found)):
                axes.scatter(one.max_lr[which], one.value[which], s=size, marker=marker, color=colour, zorder=3)
        if any(one.found.any() for one in series):
            axes.scatter([], [], s=90, marker="*", color="#222222", label="max_lr=auto")
        low, high = min(one.max_lr.min() for one in series) / _MARGIN, max(one.max_lr.max() for one in series) * _MARGIN
        _learning_rate_axis(axes, low, high)
        axes.set(ylabel=metric, xlabel="max_lr", title=f"{metric} by max_lr, over the range test's loss")
        if metric.endswith("accuracy"):
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        behind.set_ylabel("training loss of the range test, nats per image", color=GRAY)
        behind.grid(visible=False)
        shown = [
            np.array(c.smoothed)[(low <= np.array(c.learning_rates)) & (np.array(c.learning_rates) <= high)]
            for c in curves
        ]
        _cut_off(behind, curves[0], np.concatenate(shown))
        figure.legend(loc="outside lower center", ncols=3, fontsize=8)
        save(figure, path)


def _learning_rate_axis(axes: Any, low: float, high: float) -> None:
    """Make x a logarithmic axis of learning rates, written as people type them."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    steps = (1.0,) if high / low > _MANY_DECADES else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _cut_off(axes: Any, curve: RangeCurve, losses: NDArray[np.float64]) -> None:
    """Let the descent fill the height; what diverges leaves through the top."""
    known = losses[np.isfinite(losses)]
    if len(known) and np.isfinite(curve.start):
        low, high = known.min(), known.max()
        fall = max(curve.start - low, 3 * curve.noise, 0.05 * low)
        axes.set_ylim(low - 0.08 * fall, min(high + 0.08 * fall, curve.start + _ROOM * fall))
