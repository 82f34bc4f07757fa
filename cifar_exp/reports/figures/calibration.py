"""The reliability diagram, and the confidences of right and of wrong predictions."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from cifar_exp.evaluation.calibration import calibration_error, calibration_rows
from cifar_exp.reports.figures.style import GRAY, RIGHT, TEST, WRONG, new_figure

_BINS = 20  # of the histogram


def draw_calibration(confidences: NDArray[np.float64], correct: NDArray[np.bool_], path: Path) -> None:
    """Draw the reliability diagram above the histogram of confidences, (N,) probabilities of the predictions."""
    with new_figure(path, 5.4, 6.6) as figure:
        above, below = figure.subplots(2, 1, height_ratios=(2.2, 1), sharex=True)
        _reliability(above, confidences, correct)
        _histogram(below, confidences, correct)
        below.set_xlabel("confidence (softmax probability of the predicted class)")
        for axis in (above.yaxis, below.yaxis, below.xaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _reliability(axes: Any, confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> None:
    rows, error = calibration_rows(confidences, correct), calibration_error(confidences, correct)
    x, y, low, high = (
        np.array([row[key] for row in rows]) for key in ("mean_confidence", "accuracy", "accuracy_low", "accuracy_high")
    )
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1, label="confidence = accuracy")
    label = f"{len(rows)} groups of about {len(correct) // len(rows):,} images"
    ends = [np.maximum(y - low, 0), np.maximum(high - y, 0)]
    axes.errorbar(x, y, ends, fmt="o-", color=TEST, markersize=4, linewidth=1.2, capsize=2.5, label=label)
    start = float(max(0.0, min(confidences.min(), low.min()) - 0.03))
    axes.set(xlim=(start, 1.015), ylim=(start, 1.03), ylabel="accuracy, with 95% interval")
    axes.set_title(
        f"Calibration error (ECE) {100 * error.ece:.1f} points, 95% interval {100 * error.low:.1f} to"
        f" {100 * error.high:.1f}\nmean confidence minus accuracy: {100 * error.excess:+.1f} points",
        fontsize=9,
        pad=22,
    )
    axes.text(0.03, 0.93, "above the line: underconfident", transform=axes.transAxes, fontsize=8, color=GRAY)
    axes.text(0.97, 0.06, "below: overconfident", transform=axes.transAxes, fontsize=8, color=GRAY, ha="right")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8)


def _histogram(axes: Any, confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> None:
    right = {"color": RIGHT, "fill": True, "alpha": 0.55}
    wrong = {"color": WRONG, "linestyle": "--"}
    for inside, name, look in ((correct, "right", right), (~correct, "wrong", wrong)):
        counts, edges = np.histogram(confidences[inside], bins=_BINS, range=(0, 1))
        label = f"{name}: {counts.sum():,} images"
        axes.stairs(counts / max(counts.sum(), 1), edges, linewidth=1.6, label=label, **look)
    axes.set_ylabel("fraction of the images")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
