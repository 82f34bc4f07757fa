"""Images in a grid with a caption each, with or without their Grad-CAM maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar_exp.reports.figures import style

_COLUMNS = 8


def contact_sheet(
    images: NDArray[np.uint8], captions: Sequence[str], title: str, path: Path, heat: NDArray[np.float32] | None = None
) -> None:
    """Draw N >= 1 images (N, H, W, C) in a grid, each overlaid with its Grad-CAM map if ``heat`` (N, H, W) is given."""
    columns = min(_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    with style.new_figure(path, max(columns, 4) * 1.3, rows * 1.6 + 0.5) as figure:
        figure.suptitle(title, fontsize=10)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        style.show_images(grid, images, captions, 7, heat)
