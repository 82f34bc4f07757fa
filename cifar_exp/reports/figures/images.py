"""Pictures of images: the misclassified ones, what augmentation makes of them, where the network looked."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cifar_exp.explain.faithfulness import Explanation
from cifar_exp.explain.gradcam import TARGETS, CamMap
from cifar_exp.explain.layers import LayerMap
from cifar_exp.explain.verdict import HEADLINES, MARKS, WRONG_PLACE, decimal
from cifar_exp.reports.figures.style import GRAY, RIGHT, WRONG, bare, message_figure, save, shorten, show_image, styled

_COLUMNS = 5
_CAPTION_WIDTH = 26  # characters that fit over an image
# Of the Grad-CAM figure, in inches: a map, the space between maps, a row, its label, and what is above and below.
_CELL, _GAP, _ROW, _LABEL, _HEADER, _LINE = 0.84, 0.09, 1.06, 1.15, 1.05, 0.19


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


def gradcam(judged: Sequence[Judged], explanation: Explanation, path: Path, *, reason: str | None = None) -> None:
    """A row for each image: the image, then each layer's map for the predicted class and for the true one.

    Args:
        judged: the images, as rows.
        explanation: their maps, and whether each layer's maps matter.
        path: of the PNG.
        reason: why there are no maps; None if they could not be computed.
    """
    with styled():
        if not judged or not explanation.maps:
            reason = "No test image was misclassified." if not judged else reason or "See the warning in run.log."
            save(message_figure(f"No Grad-CAM to show. {reason}"), path)
            return
        layers = list(dict.fromkeys(cam.layer for cam in explanation.maps))
        notes = _map_notes(explanation)
        width = _LABEL + (_CELL + _GAP) * (1 + len(TARGETS) * len(layers)) + _GAP * len(TARGETS)
        height = _HEADER + _ROW * len(judged) + _LINE * len(notes) + 0.1
        figure = Figure(figsize=(width, height))

        def place(column: int, row: int) -> Any:
            """The axes of a cell; column 0 holds the images."""
            group = 0 if column == 0 else 1 + (column - 1) // len(layers)
            left, top = _LABEL + column * (_CELL + _GAP) + group * _GAP, _HEADER + row * _ROW
            return figure.add_axes((left / width, 1 - (top + _CELL) / height, _CELL / width, _CELL / height))

        figure.text(0.5, 1 - 0.08 / height, _map_title(explanation), ha="center", va="top", fontsize=12, weight="bold")
        by_place = {(cam.index, cam.layer.name, cam.target): cam for cam in explanation.maps}
        columns = [(target, layer) for target in TARGETS for layer in layers]
        for row, one in enumerate(judged):
            show_image(axes := place(0, row), one.image)
            _row_label(axes, _map_caption(one))
            for column, (target, layer) in enumerate(columns, start=1):
                axes = place(column, row)
                _overlay(axes, one.image, by_place[one.index, layer.name, target])
                if row == 0:
                    _map_header(axes, explanation, layer, target)
                    if layer == layers[0]:
                        text = f"For the {target} class"
                        axes.annotate(
                            text, (0, 1), (0, 40), "axes fraction", "offset points", fontsize=10, weight="bold"
                        )
        for line, note in enumerate(reversed(notes)):
            figure.text(0.1 / width, (0.06 + _LINE * line) / height, note, fontsize=9)
        save(figure, path)


def _map_title(explanation: Explanation) -> str:
    found = {test.layer.name: test.verdict for test in explanation.tests if test.target == "predicted"}
    verdict = found.get(str(explanation.read_first))
    return f"{HEADLINES[verdict]} ({explanation.read_first})" if verdict else "Grad-CAM, not tested"


def _map_caption(one: Judged) -> str:
    if one.label == one.prediction:
        return f"{shorten(one.label, 14)}\nright ({one.confidence:.2f})"
    return f"said {shorten(one.prediction, 12)}\n({one.confidence:.2f})\nis {shorten(one.label, 14)}"


def _map_header(axes: Any, explanation: Explanation, layer: LayerMap, target: str) -> None:
    """The layer, the size of its map, and whether its maps matter: the mean difference and the verdict's colour."""
    test = next((one for one in explanation.tests if (one.layer, one.target) == (layer, target)), None)
    first = layer.name == explanation.read_first
    name = shorten(layer.name, 11)
    axes.set_title(f"{name}\n{layer.height}x{layer.width}", fontsize=9, weight="bold" if first else "normal", pad=14)
    if test is not None and test.effect is not None:
        colour = {MARKS: RIGHT, WRONG_PLACE: WRONG}.get(str(test.verdict), GRAY)
        axes.annotate(
            decimal(test.effect.difference, 3),
            (0.5, 1),
            (0, 3),
            "axes fraction",
            "offset points",
            ha="center",
            color=colour,
        )


def _map_notes(explanation: Explanation) -> list[str]:
    """Lines under the maps: what the numbers are."""
    notes = [
        "Under a map: drop in the class's probability with the fifth of the pixels that the map marks hidden, and in",
        "brackets with the places hidden that the maps of other shown images mark. Each map has its own colour scale.",
    ]
    if explanation.tests:
        n = {test.target: test.n for test in explanation.tests}
        notes += [
            f"Above: the mean difference on {n['predicted']:,} random test images, for the true class on the mistakes",
            "among them. By its 95% interval, green: marks what the prediction depends on; gray: no evidence that it",
            "does; orange: marks the wrong place. Bold: the layer to read first.",
        ]
    return notes


def _overlay(axes: Any, image: NDArray[np.uint8], cam: CamMap) -> None:
    axes.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    peak = float(cam.heat.max())
    if peak > 0:
        axes.imshow(cam.heat / peak, cmap="inferno", alpha=0.6, vmin=0, vmax=1)
        text = decimal(cam.attended_drop)
        text += "" if cam.control_drop is None else f" ({decimal(cam.control_drop)})"
        axes.set_xlabel(text, fontsize=9, labelpad=1.5)
    else:
        axes.set_xlabel("no heat", fontsize=9, labelpad=1.5, color=GRAY)
    bare(axes)


def _row_label(axes: Any, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9)
