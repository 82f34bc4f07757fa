"""The confusion matrix, for two classes as for hundreds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cifar_exp.reports.figures.style import save, shorten, styled

_MOST_NUMBERS = 20  # classes up to which each cell's count can be read
_MOST_NAMES = 120  # classes up to which each row's name can be read


def confusion(counts: NDArray[np.int64], class_names: Sequence[str], title: str, path: Path) -> None:
    """Draw the matrix: rows are true classes, shade is the share of the row, numbers are counts and totals.

    Args:
        counts: (classes, classes).
        class_names: in the order of the rows.
        title: of the figure.
        path: of the PNG.
    """
    classes = len(class_names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with styled():
        side = float(np.clip(0.55 * classes + 1.5, 4.5, 8.0)) if classes <= _MOST_NUMBERS else 11.0
        figure = Figure(figsize=(side + 1.2, side), layout="constrained")
        axes = figure.subplots()
        # Square-root shading: errors of a few per cent stay visible beside a diagonal of ninety.
        drawn = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
        axes.set_title(title, pad=20 if classes <= _MOST_NUMBERS else None)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.grid(visible=False)
        if classes <= _MOST_NAMES:
            size = 9 if classes <= _MOST_NUMBERS else 480 / classes
            names = [shorten(name, 18) for name in class_names]
            rotation = 0 if classes <= 12 and max(map(len, names)) <= 4 else 90 if classes > 12 else 45
            axes.set_xticks(range(classes), names, rotation=rotation, fontsize=size)
            axes.set_yticks(range(classes), names, fontsize=size)
            if rotation == 45:
                for label in axes.get_xticklabels():
                    label.set(ha="right", rotation_mode="anchor")
        if classes <= _MOST_NUMBERS:
            _totals(axes, counts)
            for row, column in np.argwhere(counts > 0):
                axes.text(
                    column,
                    row,
                    f"{counts[row, column]:,}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if shares[row, column] > 0.36 else "#222222",
                )
        bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.09 if classes <= _MOST_NUMBERS else 0.05)
        marks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1]
        bar.set_ticks([float(np.sqrt(mark)) for mark in marks], labels=[f"{mark:.0%}" for mark in marks])
        bar.set_label("share of the true class's images")
        save(figure, path)


def _totals(axes: Any, counts: NDArray[np.int64]) -> None:
    """Write the sums of rows and columns outside the matrix."""
    end = len(counts) - 0.5
    style = {"fontsize": 8, "color": "#555555", "clip_on": False}
    for position, (of_row, of_column) in enumerate(zip(counts.sum(axis=1), counts.sum(axis=0), strict=True)):
        axes.text(end + 0.15, position, f"{of_row:,}", ha="left", va="center", **style)
        axes.text(position, -0.6, f"{of_column:,}", ha="center", va="bottom", **style)
    axes.text(end + 0.15, -0.6, "total", ha="left", va="bottom", **style)
