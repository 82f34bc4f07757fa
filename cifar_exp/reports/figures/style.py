"""One look for all figures: colours, sizes, saving."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cifar_exp.reports.figures.fonts import choose_fonts
from cifar_exp.safe_io import atomic

# Okabe and Ito's colours, which colour-blind readers can tell apart.
TRAIN, VALIDATION, TEST, GRAY = "#0072B2", "#E69F00", "#D55E00", "#767676"
RIGHT, WRONG = "#009E73", "#D55E00"

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "text.parse_math": False,  # names of classes and runs are not formulas
}


def styled() -> Any:
    """Context in which a figure is to be made and saved."""
    return rc_context(_STYLE)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically. Works without a display: no window system is involved."""
    choose_fonts(figure)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the log has named those letters
        # Neither version nor date: the same run makes the same file.
        figure.savefig(buffer, format="png", metadata={"Software": None}, bbox_inches="tight", pad_inches=0.12)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, buffer.getvalue())


def message_figure(message: str) -> Figure:
    """A figure that says why there is nothing to show."""
    figure = Figure(figsize=(6, 1.6))
    figure.text(0.5, 0.5, message, ha="center", va="center", fontsize=11, wrap=True)
    return figure


def show_image(axes: Any, image: NDArray[np.uint8]) -> None:
    """Draw one (H, W, C) uint8 image, gray or colour, without axes."""
    gray = image.shape[2] == 1
    axes.imshow(image[:, :, 0] if gray else image, cmap="gray" if gray else None, vmin=0, vmax=255)
    bare(axes)


def bare(axes: Any) -> None:
    """Take ticks, grid and frame away."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def shorten(text: str, length: int) -> str:
    """Cut a long name, so that it does not run into its neighbour."""
    return text if len(text) <= length else text[: length - 1] + "…"
