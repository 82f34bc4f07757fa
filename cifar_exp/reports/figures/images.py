"""Pictures of images: the misclassified ones, what augmentation makes of them, where the network looked."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cifar_exp.explain.gradcam import TARGETS, CamMap
from cifar_exp.reports.figures.style import GRAY, WRONG, bare, message_figure, save, shorten, show_image, styled

_COLUMNS = 5
_CAPTION_WIDTH = 26  # characters that fit over an image


@dataclass(frozen=True)
class Judged:
    """A test image and what the network said about it: (H, W, C) uint8, names, softmax probability."""

    index: int
    image: NDArray[np.uint8]
    label: str
    prediction: str
    confidence: float


def misclassified(judged: Sequence[Judged], total: int, images: int, path: Path) -> None:
    """A gallery of misclassified images with test index, label, prediction and confidence.

    Args:
        judged: the images to show, in order; may be empty.
        total: misclassified images in all.
        images: test images in all.
        path: of the PNG.
    """
    with styled():
        if not judged and total:
            save(message_figure(f"{total:,} of {images:,} test images misclassified; none was to be shown."), path)
            return
        if not judged:
            save(message_figure(f"None of the {images:,} test images was misclassified."), path)
            return
        rows = -(-len(judged) // _COLUMNS)
        captions = [_full_caption(one) for one in judged]
        lines = max(caption.count("\n") for caption in captions) + 1
        figure = Figure(figsize=(_COLUMNS * 1.75, rows * (1.7 + 0.15 * lines) + 0.5), layout="constrained")
        figure.suptitle(
            f"{total:,} of {images:,} test images misclassified; the {len(judged)} most confident mistakes", fontsize=11
        )
        for axes in (grid := figure.subplots(rows, _COLUMNS, squeeze=False).ravel()):
            bare(axes)
        for axes, one, caption in zip(grid, judged, captions, strict=False):
            show_image(axes, one.image)
            axes.set_title(caption, fontsize=8, fontweight="normal")
        save(figure, path)


def _full_caption(one: Judged) -> str:
    """Test index (as ``explain.indices`` takes it), answer, confidence and label; long names are wrapped."""
    texts = (f"index {one.index}", f"said {one.prediction} ({one.confidence:.0%})", f"is {one.label}")
    return "\n".join(line for text in texts for line in textwrap.wrap(text, _CAPTION_WIDTH))


def _caption(one: Judged, length: int) -> str:
    return f"said {shorten(one.prediction, length)} ({one.confidence:.0%})\nis {shorten(one.label, length)}"


def augmentations(
    originals: NDArray[np.uint8], seen: Sequence[NDArray[np.uint8]], names: Sequence[str], policy: str, path: Path
) -> None:
    """Training images, and what the network sees of them in the first epochs.

    Args:
        originals: (N, H, W, C) uint8.
        seen: for each epoch shown, (N, H, W, C) uint8.
        names: the images' classes.
        policy: name of the augmentation.
        path: of the PNG.
    """
    with styled():
        rows, columns = len(seen) + 1, len(originals)
        figure = Figure(figsize=(columns * 1.15 + 0.8, rows * 1.15 + 0.6), layout="constrained")
        figure.suptitle(f"What the network sees of {columns} training images (augment={policy})", fontsize=11)
        grid = figure.subplots(rows, columns, squeeze=False)
        for row, images in enumerate([originals, *seen]):
            for column, image in enumerate(images):
                show_image(grid[row, column], image)
            _row_label(grid[row, 0], "original" if row == 0 else f"epoch {row}")
        for column, name in enumerate(names):
            grid[0, column].set_title(shorten(name, 12), fontsize=8, fontweight="normal")
        save(figure, path)


def gradcam(
    judged: Sequence[Judged],
    maps: Sequence[CamMap],
    headline: str | None,
    path: Path,
    *,
    reason: str | None = None,
) -> None:
    """A column for each image, a row for each layer under it: for the predicted class, then for the true one.

    Args:
        judged: the images, as columns.
        maps: for each image, layer and target.
        headline: the layer to read first.
        path: of the PNG.
        reason: why there are no maps; None if they could not be computed.
    """
    with styled():
        if not judged or not maps:
            reason = reason or "See the warning in run.log."
            if not judged:
                reason = "No test image was misclassified."
            save(message_figure(f"No Grad-CAM to show. {reason}"), path)
            return
        layers = list(dict.fromkeys(cam.layer for cam in maps))
        by_place = {(cam.index, cam.layer.name, cam.target): cam for cam in maps}
        rows, columns = 1 + len(layers) * len(TARGETS), len(judged)
        figure = Figure(figsize=(columns * 1.25 + 1.3, rows * 1.27 + 0.9), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)  # type: ignore[union-attr, call-arg]
        figure.suptitle(
            "Where the network looks: Grad-CAM for the predicted class, then for the true class\n"
            "(each map scaled to its own maximum; numbers: the fall in the class's probability\n"
            "when the most attended fifth of the pixels is hidden / when random ones are;\n"
            "orange where random ones matter more)",
            fontsize=10,
        )
        grid = figure.subplots(rows, columns, squeeze=False)
        for column, one in enumerate(judged):
            show_image(grid[0, column], one.image)
            grid[0, column].set_title(_caption(one, 10), fontsize=7, fontweight="normal")
            _row_label(grid[0, 0], "input")
            row = 1
            for target in TARGETS:
                for layer in layers:
                    cam = by_place[one.index, layer.name, target]
                    _overlay(grid[row, column], one.image, cam)
                    if column == 0:
                        mark = "\nread first" if layer.name == headline and target == TARGETS[0] else ""
                        _row_label(
                            grid[row, 0], f"{shorten(layer.name, 14)}\n{layer.height}x{layer.width}\n{target}{mark}"
                        )
                    row += 1
        save(figure, path)


def _overlay(axes: Any, image: NDArray[np.uint8], cam: CamMap) -> None:
    gray = image.mean(axis=2)
    axes.imshow(gray, cmap="gray", vmin=0, vmax=255)
    peak = float(cam.heat.max())
    if peak > 0:
        axes.imshow(cam.heat / peak, cmap="inferno", alpha=0.6, vmin=0, vmax=1)
        # Adding 0 turns -0.0 into 0.0; what reads the same is coloured as the same.
        attended, random = round(cam.deletion_drop, 2) + 0.0, round(cam.random_drop, 2) + 0.0
        text = f"{attended:+.2f} / {random:+.2f}"
        axes.set_xlabel(text, fontsize=7, labelpad=1.5, color=WRONG if attended < random else "black")
    else:
        axes.set_xlabel("no positive evidence", fontsize=7, labelpad=1.5, color=GRAY)
    bare(axes)


def _row_label(axes: Any, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=8)
