"""Figures of LR range tests: the losses of one test, and the results of runs over the losses of several."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from cifar_exp.reports.figures.style import DARK, GRAY, PALETTE, TEST, TRAIN, new_figure
from cifar_exp.training.lr_range_test import LRRangeTest

_DASHED = (0, (4, 3))
_MOST_CURVES = 5
_MARGIN = 4.0  # factor of learning rates beyond those of the runs, on both sides
_MANY_DECADES = 1e4  # wider ranges have ticks at powers of ten only, as others would overlap
_SPACE = 0.6  # above the initial loss, as a fraction of its decrease


def draw_lr_range_test(test: LRRangeTest, title: str, path: Path) -> None:
    """Loss by learning rate, with the suggested one marked; ``title`` names the experiment."""
    suggestion = test.suggest()
    with new_figure(path, 8, 4.2) as figure:
        axes = figure.subplots()
        axes.plot(test.learning_rates, test.losses, color=TRAIN, linewidth=0.8, alpha=0.35, label="loss of a batch")
        axes.plot(test.learning_rates, test.smoothed, color=TRAIN, linewidth=2, label="smoothed loss")
        _learning_rate_axis(axes, test.learning_rates[0] / 1.3, test.learning_rates[-1] * 1.3)
        axes.set(xlabel="learning rate", ylabel="training loss, nats per image")
        _limit_to_descent(axes, test, np.array(test.losses))
        result = "no suggestion"
        if suggestion.max_lr is not None and suggestion.lowest is not None:
            result = f"max_lr {suggestion.max_lr:g} suggested"
            half = f"{suggestion.max_lr:g}: half of the decrease in loss"
            lowest = f"{suggestion.lowest:.2g}: the smoothed loss is lowest"
            axes.axvline(suggestion.max_lr, color=TEST, linewidth=1.6, label=half)
            axes.axvline(suggestion.lowest, color=GRAY, linewidth=1.2, linestyle=_DASHED, label=lowest)
        axes.set_title(f"{title}: LR range test, {result}")
        axes.legend(loc="best")


def draw_over_lr_range_tests(
    series: dict[str, pd.DataFrame], tests: Sequence[LRRangeTest], metric: str, path: Path
) -> None:
    """Metric of runs by learning rate, over the losses of LR range tests (right axis).

    ``series`` has the runs of each line by its label: ``max_lr``, ``value``, and ``auto``, whether an LR range test
    found the learning rate. There is at least one line and one test.
    """
    all_rates = pd.concat(list(series.values()))["max_lr"]
    low, high = all_rates.min() / _MARGIN, all_rates.max() * _MARGIN
    with new_figure(path, 8.5, 4.6) as figure:
        axes = figure.subplots()
        behind = axes.twinx()
        axes.set_zorder(behind.get_zorder() + 1)
        axes.patch.set_visible(False)
        name = "LR range test" if len(tests) == 1 else f"LR range tests ({min(len(tests), _MOST_CURVES)})"
        axes.plot([], [], color=GRAY, linewidth=1.6, label=f"{name}: smoothed loss (right)")
        for test in tests[:_MOST_CURVES]:
            behind.plot(test.learning_rates, test.smoothed, color=GRAY, linewidth=1.6, alpha=0.7)
            if (suggested := test.suggest().max_lr) is not None:
                label = f"suggested: {suggested:g}"
                axes.axvline(suggested, color=GRAY, linewidth=1.1, linestyle=_DASHED, label=label)
        for number, (label, runs) in enumerate(series.items()):
            colour = PALETTE[number % len(PALETTE)]
            axes.plot(runs.groupby("max_lr")["value"].mean(), color=colour, linewidth=1.8, label=label or metric)
            for marker, size, which in (("o", 26, ~runs["auto"]), ("*", 120, runs["auto"])):
                points = runs[which]
                axes.scatter(points["max_lr"], points["value"], s=size, marker=marker, color=colour, zorder=3)
        if any(runs["auto"].any() for runs in series.values()):
            axes.scatter([], [], s=90, marker="*", color=DARK, label="max_lr=auto")
        _learning_rate_axis(axes, low, high)
        axes.set(ylabel=metric, xlabel="max_lr", title=f"{metric} by max_lr, over the loss of the LR range test")
        if metric.endswith("accuracy"):
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        behind.set_ylabel("training loss of the LR range test, nats per image", color=GRAY)
        behind.grid(visible=False)
        rates, losses = (
            np.concatenate([getattr(test, column) for test in tests]) for column in ("learning_rates", "smoothed")
        )
        _limit_to_descent(behind, tests[0], losses[(low <= rates) & (rates <= high)])
        figure.legend(loc="outside lower center", ncols=3, fontsize=8)


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
        axes.set_ylim(low - 0.08 * fall, min(high + 0.08 * fall, test.initial_loss + _SPACE * fall))
