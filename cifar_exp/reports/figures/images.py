"""Figures of images: mistakes, augmented training images, Grad-CAM maps."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_exp.explain.faithfulness import Explanation
from cifar_exp.explain.gradcam import TARGETS
from cifar_exp.explain.layers import LayerMap
from cifar_exp.explain.verdict import HEADLINES, MARKS, WRONG_PLACE, decimal
from cifar_exp.reports.figures import style

_GALLERY_COLUMNS = 5  # of the figure of misclassified images
_SHEET_COLUMNS = 8
_CAPTION_WIDTH = 26  # characters that fit over an image
# Of the Grad-CAM figure, in inches.
_CELL = 0.84  # width and height of a map
_GAP = 0.09  # between maps
_ROW = 1.06  # height of a row of maps
_LABEL = 1.15  # width of a row's label
_HEADER = 1.05  # height above the maps
_LINE = 0.19  # height of a line of the notes under the maps


@dataclass(frozen=True)
class ClassifiedImage:
    """A test image, (H, W, C) uint8, with its label and its prediction."""

    index: int
    image: NDArray[np.uint8]
    label: str
    prediction: str
    confidence: float  # softmax probability of the prediction


def draw_misclassified(
    classified: Sequence[ClassifiedImage], misclassified_count: int, test_count: int, path: Path
) -> None:
    """Draw misclassified images with test index, label, prediction and confidence; the title has the counts."""
    count = f"{misclassified_count:,} of {test_count:,} test images misclassified"
    if not classified:
        style.draw_message(f"{count}{'; evaluation.gallery_images=0 shows none' if misclassified_count else ''}.", path)
        return
    captions = [_caption(one) for one in classified]
    lines = max(caption.count("\n") for caption in captions) + 1
    rows = -(-len(classified) // _GALLERY_COLUMNS)
    with style.new_figure(path, _GALLERY_COLUMNS * 1.75, rows * (1.7 + 0.15 * lines) + 0.5) as figure:
        figure.suptitle(f"{count}; the {len(classified)} most confident mistakes", fontsize=11)
        grid = figure.subplots(rows, _GALLERY_COLUMNS, squeeze=False).ravel()
        style.show_images(grid, [one.image for one in classified], captions, 8)


def _caption(one: ClassifiedImage) -> str:
    """Return test index (for ``explain.indices``), prediction, confidence and label; long names are wrapped."""
    texts = (f"index {one.index}", f"predicted {one.prediction} ({one.confidence:.0%})", f"label {one.label}")
    return "\n".join(line for text in texts for line in textwrap.wrap(text, _CAPTION_WIDTH))


def draw_contact_sheet(
    images: NDArray[np.uint8], captions: Sequence[str], title: str, path: Path, heat: NDArray[np.float32] | None = None
) -> None:
    """Draw N >= 1 images (N, H, W, C) in a grid, each overlaid with its Grad-CAM map if ``heat`` (N, H, W) is given."""
    columns = min(_SHEET_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    with style.new_figure(path, max(columns, 4) * 1.3, rows * 1.6 + 0.5) as figure:
        figure.suptitle(title, fontsize=10)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        style.show_images(grid, images, captions, 7, heat)


def draw_augmented(
    originals: NDArray[np.uint8], seen: Sequence[NDArray[np.uint8]], names: Sequence[str], policy: str, path: Path
) -> None:
    """Draw training images (N, H, W, C) uint8 of the named classes, and their augmented versions by epoch."""
    rows, columns = len(seen) + 1, len(originals)
    with style.new_figure(path, columns * 1.15 + 0.8, rows * 1.15 + 0.6) as figure:
        figure.suptitle(f"{columns} training images as the network sees them (augment={policy})", fontsize=11)
        grid = figure.subplots(rows, columns, squeeze=False)
        for row, images in enumerate([originals, *seen]):
            for column, image in enumerate(images):
                style.show_image(grid[row, column], image)
            _row_label(grid[row, 0], "original" if row == 0 else f"epoch {row}")
        for column, name in enumerate(names):
            grid[0, column].set_title(style.shorten(name, 12), fontsize=8, fontweight="normal")


def draw_gradcam(
    classified: Sequence[ClassifiedImage], explanation: Explanation, path: Path, *, reason: str | None = None
) -> None:
    """Draw a row for each image: the image, then each layer's map for the predicted class and for the true one.

    ``reason`` says why no layer is explained. None: computing the maps failed, and run.log has the warning.
    """
    if not classified or not explanation.maps:
        reason = "No test image was misclassified." if not classified else reason or "See the warning in run.log."
        style.draw_message(f"No Grad-CAM maps. {reason}", path)
        return
    layers = list(dict.fromkeys(cam.layer for cam in explanation.maps))
    by_place = {(cam.index, cam.layer.name, cam.target): cam for cam in explanation.maps}
    notes = _map_notes(explanation)
    width = _LABEL + (_CELL + _GAP) * (1 + len(TARGETS) * len(layers)) + _GAP * len(TARGETS)
    height = _HEADER + _ROW * len(classified) + _LINE * len(notes) + 0.1
    with style.new_figure(path, width, height, None) as figure:

        def cell(row: int, column: int, group: int) -> Any:
            """Add axes. Column 0 shows the images. A gap precedes each group of columns."""
            left, top = _LABEL + column * (_CELL + _GAP) + group * _GAP, _HEADER + row * _ROW
            return figure.add_axes((left / width, 1 - (top + _CELL) / height, _CELL / width, _CELL / height))

        figure.text(0.5, 1 - 0.08 / height, _map_title(explanation), ha="center", va="top", fontsize=12, weight="bold")
        for row, one in enumerate(classified):
            style.show_image(axes := cell(row, 0, 0), one.image)
            _row_label(axes, _map_caption(one))
            for group, target in enumerate(TARGETS):
                for number, layer in enumerate(layers):
                    axes = cell(row, 1 + group * len(layers) + number, 1 + group)
                    cam = by_place[one.index, layer.name, target]
                    style.show_map(axes, one.image, cam.heat)
                    control = "" if cam.control_drop is None else f" ({decimal(cam.control_drop)})"
                    text = f"{decimal(cam.attended_drop)}{control}" if cam.heat.any() else "empty"
                    axes.set_xlabel(text, fontsize=9, labelpad=1.5)
                    if row == 0:
                        _map_header(axes, explanation, layer, target, first=number == 0)
        for line, note in enumerate(reversed(notes)):
            figure.text(0.1 / width, (0.06 + _LINE * line) / height, note, fontsize=9)


def _map_title(explanation: Explanation) -> str:
    verdicts = {test.layer.name: test.verdict for test in explanation.tests if test.target == "predicted"}
    verdict = verdicts.get(str(explanation.read_first))
    return f"{HEADLINES[verdict]} ({explanation.read_first})" if verdict else "Grad-CAM, not tested"


def _map_caption(one: ClassifiedImage) -> str:
    if one.label == one.prediction:
        return f"{style.shorten(one.label, 14)}\nright ({one.confidence:.2f})"
    return f"pred. {style.shorten(one.prediction, 12)}\n({one.confidence:.2f})\nlabel {style.shorten(one.label, 12)}"


def _map_header(axes: Any, explanation: Explanation, layer: LayerMap, target: str, *, first: bool) -> None:
    """Print class, layer, map size and mean difference. The number has the colour of the verdict."""
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    if first:
        axes.annotate(f"For the {target} class", (0, 1), (0, 40), fontsize=10, weight="bold", **place)
    weight = "bold" if layer.name == explanation.read_first else "normal"
    title = f"{style.shorten(layer.name, 11)}\n{layer.height}x{layer.width}"
    axes.set_title(title, fontsize=9, weight=weight, pad=14)
    for test in explanation.tests:
        if (test.layer, test.target) == (layer, target) and test.effect is not None:
            colour = {MARKS: style.RIGHT, WRONG_PLACE: style.WRONG}.get(str(test.verdict), style.GRAY)
            text = decimal(test.effect.difference, 3)
            axes.annotate(text, (0.5, 1), (0, 3), ha="center", color=colour, **place)


def _map_notes(explanation: Explanation) -> list[str]:
    """Explain the numbers, in lines under the maps."""
    text = (
        "Under a map: how much the class's probability drops if the 20% of pixels that this map marks are hidden. "
        "In brackets: the drop if those that the other shown images' maps mark are hidden. Each map has its own "
        "colour scale."
    )
    if explanation.tests:
        n = {test.target: test.n for test in explanation.tests}
        text += (
            f" Above a column: the mean difference of the two drops on {n['predicted']:,} random test images. For the "
            "true class, only misclassified images count. The colour is the verdict by the 95% interval. Green: marks "
            "what the prediction depends on. Gray: no evidence that it does. Orange: marks the wrong place. Bold: the "
            "layer to read first."
        )
    return textwrap.wrap(text, 110)


def _row_label(axes: Any, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9)
