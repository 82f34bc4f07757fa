"""Figures of LR range tests: the losses of one test, and the results of runs over the losses of several."""

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
from cifar_exp.training.lr_range_test import LRRangeTest

_MOST_CURVES = 5
_MARGIN = 4.0  # factor of learning rates beyond those of the runs, on both sides
_MANY_DECADES = 1e4  # wider ranges have ticks at powers of ten only, as others would overlap
_ROOM = 0.6  # above the initial loss, as a fraction of its fall


def draw_lr_range_test(test: LRRangeTest, title: str, path: Path) -> None:
    """Loss by learning rate, with the suggested one marked.

    Args:
        test: at least one step.
        title: of the experiment.
        path: of the PNG.
    """
    suggestion = test.suggest()
    with styled():
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(test.learning_rates, test.losses, color=TRAIN, linewidth=0.8, alpha=0.35, label="loss of a batch")
        axes.plot(test.learning_rates, test.smoothed, color=TRAIN, linewidth=2, label="smoothed loss")
        low, high = test.learning_rates[0], test.learning_rates[-1]
        _learning_rate_axis(axes, low / 1.3, high * 1.3)
        axes.set(xlabel="learning rate", ylabel="training loss, nats per image")
        _limit_to_descent(axes, test, np.array(test.losses))
        result = "no suggestion"
        if suggestion.max_lr is not None and suggestion.lowest is not None:
            result = f"max_lr {suggestion.max_lr:g} suggested"
            axes.axvline(
                suggestion.max_lr, color=TEST, linewidth=1.6, label=f"{suggestion.max_lr:g}: half of the loss's fall"
            )
            axes.axvline(
                suggestion.lowest,
                color=GRAY,
                linewidth=1.2,
                linestyle=(0, (4, 3)),
                label=f"{suggestion.lowest:.2g}: the smoothed loss is lowest",
            )
        axes.set_title(f"{title}: LR range test, {result}")
        axes.legend(loc="best")
        save(figure, path)


@dataclass(frozen=True)
class MeasuredAt:
    """A metric of runs that differ by their learning rate and seed only.

    Attributes:
        label: of the line; empty where there is only one.
        max_lr: (runs,).
        value: (runs,).
        found: (runs,) whether an LR range test chose the learning rate.
    """

    label: str
    max_lr: NDArray[np.float64]
    value: NDArray[np.float64]
    found: NDArray[np.bool_]


def draw_over_lr_range_tests(
    series: Sequence[MeasuredAt], tests: Sequence[LRRangeTest], metric: str, path: Path
) -> None:
    """Metric of runs by learning rate, over the losses of LR range tests (right axis).

    Args:
        series: at least one.
        tests: at least one.
        metric: name of the column.
        path: of the PNG.
    """
    with styled():
        figure = Figure(figsize=(8.5, 4.6), layout="constrained")
        axes = figure.subplots()
        behind = axes.twinx()
        axes.set_zorder(behind.get_zorder() + 1)
        axes.patch.set_visible(False)
        for number, test in enumerate(tests[:_MOST_CURVES]):
            suggested = test.suggest().max_lr
            name = "LR range test" if len(tests) == 1 else f"LR range tests ({min(len(tests), _MOST_CURVES)})"
            behind.plot(test.learning_rates, test.smoothed, color=GRAY, linewidth=1.6, alpha=0.7)
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
        axes.set(ylabel=metric, xlabel="max_lr", title=f"{metric} by max_lr, over the loss of the LR range test")
        if metric.endswith("accuracy"):
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        behind.set_ylabel("training loss of the LR range test, nats per image", color=GRAY)
        behind.grid(visible=False)
        shown = [
            np.array(test.smoothed)[(low <= np.array(test.learning_rates)) & (np.array(test.learning_rates) <= high)]
            for test in tests
        ]
        _limit_to_descent(behind, tests[0], np.concatenate(shown))
        figure.legend(loc="outside lower center", ncols=3, fontsize=8)
        save(figure, path)


def _learning_rate_axis(axes: Any, low: float, high: float) -> None:
    """Make x a logarithmic axis of learning rates, written as plain numbers."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    steps = (1.0,) if high / low > _MANY_DECADES else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _limit_to_descent(axes: Any, test: LRRangeTest, losses: NDArray[np.float64]) -> None:
    """Limit the y axis to the descent of the loss; diverging losses are cut off at the top."""
    known = losses[np.isfinite(losses)]
    if len(known) and np.isfinite(test.initial_loss):
        low, high = known.min(), known.max()
        fall = max(test.initial_loss - low, 3 * test.noise, 0.05 * low)
        axes.set_ylim(low - 0.08 * fall, min(high + 0.08 * fall, test.initial_loss + _ROOM * fall))
