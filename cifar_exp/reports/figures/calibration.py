"""The reliability diagram, and how sure the network was where it was right and where it was wrong."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from cifar_exp.evaluation.calibration import calibration_error, calibration_rows
from cifar_exp.reports.figures.style import GRAY, RIGHT, TEST, WRONG, save, styled

_STEPS = 20  # of the histogram


def calibration(confidences: NDArray[np.float64], correct: NDArray[np.bool_], path: Path) -> None:
    """Draw the reliability diagram above the histogram of confidences.

    Args:
        confidences: (N,) softmax probability of the prediction.
        correct: (N,).
        path: of the PNG.
    """
    with styled():
        figure = Figure(figsize=(5.4, 6.6), layout="constrained")
        above, below = figure.subplots(2, 1, height_ratios=(2.2, 1), sharex=True)
        _reliability(above, confidences, correct)
        _histogram(below, confidences, correct)
        below.set_xlabel("confidence (softmax probability of the predicted class)")
        below.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        save(figure, path)


def _reliability(axes: Any, confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> None:
    rows, error = calibration_rows(confidences, correct), calibration_error(confidences, correct)
    x, y, low, high = (
        np.array([row[key] for row in rows]) for key in ("mean_confidence", "accuracy", "accuracy_low", "accuracy_high")
    )
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1, label="confidence = accuracy")
    axes.errorbar(
        x,
        y,
        yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)],
        fmt="o-",
        color=TEST,
        markersize=4,
        linewidth=1.2,
        capsize=2.5,
        label=f"{len(rows)} groups of about {len(correct) // len(rows):,} images",
    )
    start = float(max(0.0, min(confidences.min(), low.min()) - 0.03))
    axes.set_xlim(start, 1.015)
    axes.set_ylim(start, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel("accuracy, with 95% interval")
    axes.set_title(
        f"Calibration error (ECE) {100 * error.ece:.1f} points, 95% interval {100 * error.low:.1f} to"
        f" {100 * error.high:.1f}\nmean confidence less accuracy: {100 * error.excess:+.1f} points",
        fontsize=9,
        pad=22,
    )
    axes.text(0.03, 0.93, "above the line: underconfident", transform=axes.transAxes, fontsize=8, color=GRAY)
    axes.text(0.97, 0.06, "below: overconfident", transform=axes.transAxes, fontsize=8, color=GRAY, ha="right")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8)


def _histogram(axes: Any, confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> None:
    for inside, name, colour, style in ((correct, "right", RIGHT, "-"), (~correct, "wrong", WRONG, "--")):
        shares = np.histogram(confidences[inside], bins=_STEPS, range=(0, 1))[0] / max(int(inside.sum()), 1)
        axes.stairs(
            shares,
            np.linspace(0, 1, _STEPS + 1),
            fill=name == "right",
            alpha=0.55 if name == "right" else 1,
            color=colour,
            linestyle=style,
            linewidth=1.6,
            label=f"{name}: {int(inside.sum()):,} images",
        )
    axes.set_ylabel("share of the images")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
