"""Images in a grid with a caption each, alone or under their Grad-CAM maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cifar_exp.reports.figures.style import bare, save, show_image, styled

_COLUMNS = 8


def contact_sheet(
    images: NDArray[np.uint8],
    captions: Sequence[str],
    title: str,
    path: Path,
    heat: NDArray[np.float32] | None = None,
) -> None:
    """Draw a grid of images.

    Args:
        images: (N, H, W, C), at least one.
        captions: of each image.
        title: of the figure.
        path: of the PNG.
        heat: (N, H, W) Grad-CAM maps to lay over the images, each scaled to its own maximum; None draws none.
    """
    columns = min(_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    with styled():
        figure = Figure(figsize=(max(columns, 4) * 1.3, rows * 1.6 + 0.5), layout="constrained")
        figure.suptitle(title, fontsize=10)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            bare(axes)
        for place, (axes, image, caption) in enumerate(zip(grid, images, captions, strict=False)):
            if heat is None:
                show_image(axes, image)
            else:
                axes.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
                axes.imshow(
                    heat[place] / max(float(heat[place].max()), 1e-12), cmap="inferno", alpha=0.6, vmin=0, vmax=1
                )
            axes.set_title(caption, fontsize=7, fontweight="normal")
        save(figure, path)
