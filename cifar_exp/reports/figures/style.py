"""The look of all figures: colours, sizes, fonts, saving."""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from numpy.typing import NDArray

from cifar_exp.safe_io import atomic

log = logging.getLogger(__name__)

# The colours of Okabe and Ito, distinct for colour-blind readers.
TRAIN, VALIDATION, TEST, GRAY = "#0072B2", "#E69F00", "#D55E00", "#767676"
RIGHT, WRONG, DARK = "#009E73", "#D55E00", "#222222"
# Without their yellow, which is hardly visible as a line; the darkest first.
PALETTE = (TRAIN, TEST, RIGHT, "#CC79A7", VALIDATION, "#56B4E9", DARK)

_DEFAULT_FONT = "DejaVu Sans"  # comes with Matplotlib
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


@contextmanager
def new_figure(path: Path, width: float, height: float, layout: Any = "constrained") -> Iterator[Any]:
    """A figure of this size in inches to draw into; written to ``path`` at the end."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout=layout)
        yield figure
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically and without a display."""
    _choose_fonts(figure)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the log has named those letters
        # Neither version nor date, so that equal runs have equal files.
        figure.savefig(buffer, format="png", metadata={"Software": None}, bbox_inches="tight", pad_inches=0.12)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, buffer.getvalue())


def _choose_fonts(figure: Figure) -> None:
    """Give every text of a figure an installed font for each of its letters; log which letters have none."""
    texts = [text for text in figure.findobj(Text) if not text.get_text().isascii()]
    letters = frozenset(
        letter for text in texts for letter in text.get_text() if letter.isprintable() and letter != " "
    )
    if letters and (families := _families(letters)):
        for text in texts:
            text.set_fontfamily([_DEFAULT_FONT, *families])


@cache
def _families(letters: frozenset[str]) -> tuple[str, ...]:
    """Installed families that together have the letters that the default font lacks; logs the other letters."""
    missing = _missing_from(font_manager.findfont(_DEFAULT_FONT), letters)
    if missing:
        _add_new_fonts()
    families: list[str] = []
    fonts = [font for font in font_manager.fontManager.ttflist if "Last Resort" not in font.name]
    fonts.sort(key=lambda font: ("Sans" not in font.name, font.style != "normal", font.weight != 400, font.name))
    for font in fonts:
        if missing and (found := missing - _missing_from(font.fname, missing)):
            families.append(font.name)
            missing -= found
    if missing:
        log.warning(
            "No installed font has %s: figures show boxes instead. Install a font that has them (Debian, Ubuntu: "
            "apt-get install fonts-noto-cjk fonts-noto-core fonts-symbola).",
            "".join(sorted(missing)[:20]),
        )
    return tuple(families)


def _missing_from(path: str, letters: frozenset[str]) -> frozenset[str]:
    try:
        font = FT2Font(path)
        return frozenset(letter for letter in letters if not font.get_char_index(ord(letter)))
    except (OSError, RuntimeError, ValueError):  # gone, or no font that FreeType reads
        return letters


def _add_new_fonts() -> None:
    """Add fonts that were installed after Matplotlib listed them in its cache."""
    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            with suppress(Exception):  # whatever a damaged font makes Matplotlib raise
                font_manager.fontManager.addfont(path)


def draw_message(message: str, path: Path) -> None:
    """Write a figure that says why it shows no image."""
    with new_figure(path, 6, 1.6, None) as figure:
        figure.text(0.5, 0.5, message, ha="center", va="center", fontsize=11, wrap=True)


def show_image(axes: Any, image: NDArray[np.uint8]) -> None:
    """Draw one (H, W, C) uint8 image, gray or colour, without axes."""
    gray = image.shape[2] == 1
    axes.imshow(image[:, :, 0] if gray else image, cmap="gray" if gray else None, vmin=0, vmax=255)
    hide_axes(axes)


def show_map(axes: Any, image: NDArray[np.uint8], heat: NDArray[np.float32]) -> None:
    """Draw a Grad-CAM map (H, W), scaled to its own maximum, over its image in gray."""
    axes.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    if (peak := float(heat.max())) > 0:
        axes.imshow(heat / peak, cmap="inferno", alpha=0.6, vmin=0, vmax=1)
    hide_axes(axes)


def show_images(
    grid: Sequence[Any],
    images: Sequence[NDArray[np.uint8] | None] | NDArray[np.uint8],
    captions: Sequence[str],
    size: float,
    heat: NDArray[np.float32] | None = None,
) -> None:
    """Draw each image, or its Grad-CAM map, under a caption of this font size; the axes left over stay empty."""
    for axes in grid:
        hide_axes(axes)
    for place, (axes, image, caption) in enumerate(zip(grid, images, captions, strict=False)):
        if heat is not None:
            show_map(axes, image, heat[place])
        elif image is not None:
            show_image(axes, image)
        axes.set_title(caption, fontsize=size, fontweight="normal")


def hide_axes(axes: Any) -> None:
    """Remove ticks, grid and frame."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def shorten(text: str, length: int) -> str:
    """A name of at most ``length`` characters, so that it does not overlap its neighbour."""
    return text if len(text) <= length else text[: length - 1] + "…"
