"""The confusion matrix, for any number of classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_exp.reports.figures.style import DARK, new_figure, shorten

_MOST_NUMBERS = 20  # classes up to which each cell's count is readable
_MOST_NAMES = 120  # classes up to which each row's name is readable


def draw_confusion(counts: NDArray[np.int64], class_names: Sequence[str], title: str, path: Path) -> None:
    """Draw the matrix: rows are true classes, shades are fractions of the row, numbers are counts and totals."""
    classes = len(class_names)
    few = classes <= _MOST_NUMBERS
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.55 * classes + 1.5, 4.5, 8.0)) if few else 11.0
    with new_figure(path, side + 1.2, side) as figure:
        axes = figure.subplots()
        # Square-root shading: errors of a few per cent stay visible beside a diagonal of ninety.
        drawn = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
        axes.set_title(title, pad=20 if few else None)
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.grid(visible=False)
        if classes <= _MOST_NAMES:
            size = 9 if few else 480 / classes
            names = [shorten(name, 18) for name in class_names]
            slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
            short = {"rotation": 0} if max(map(len, names)) <= 4 else slanted
            axes.set_xticks(range(classes), names, fontsize=size, **(short if classes <= 12 else {"rotation": 90}))
            axes.set_yticks(range(classes), names, fontsize=size)
        if few:
            _totals(axes, counts)
            for row, column in np.argwhere(counts > 0):
                colour = "white" if shares[row, column] > 0.36 else DARK
                text = f"{counts[row, column]:,}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.09 if few else 0.05)
        marks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1]
        bar.set_ticks([float(np.sqrt(mark)) for mark in marks], labels=[f"{mark:.0%}" for mark in marks])
        bar.set_label("fraction of the true class's images")


def _totals(axes: Any, counts: NDArray[np.int64]) -> None:
    """Write the sums of rows and columns outside the matrix."""
    end = len(counts) - 0.5
    style = {"fontsize": 8, "color": "#555555", "clip_on": False}
    for position, (of_row, of_column) in enumerate(zip(counts.sum(axis=1), counts.sum(axis=0), strict=True)):
        axes.text(end + 0.15, position, f"{of_row:,}", ha="left", va="center", **style)
        axes.text(position, -0.6, f"{of_column:,}", ha="center", va="bottom", **style)
    axes.text(end + 0.15, -0.6, "total", ha="left", va="bottom", **style)
