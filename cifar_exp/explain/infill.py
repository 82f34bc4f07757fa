"""What hidden pixels are replaced by: a blur of the others, the data set's mean colour, or ROAD's imputation."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

Infill = Callable[[torch.Tensor, NDArray[np.bool_]], torch.Tensor]

_BLUR = 1 / 8  # standard deviation, of the image's smaller side
_ROAD_NOISE = 0.01  # standard deviation, in the unit of the network's input
# Neighbours of a pixel (row, column) and their weights, of which the larger ones are nearer.
_NEIGHBOURS = [
    ((row, column), 1 / 6 if row == 0 or column == 0 else 1 / 12)
    for row in (-1, 0, 1)
    for column in (-1, 0, 1)
    if (row, column) != (0, 0)
]


def blur(inputs: torch.Tensor, hidden: NDArray[np.bool_]) -> torch.Tensor:
    """Replace hidden pixels by a Gaussian blur of the others, mirrored at the image's edges.

    The hidden pixels have no weight in it: a blur of the whole image would leave their colour in place.

    ``inputs`` are (N, C, H, W), normalized; ``hidden`` is (N, H, W).
    """
    from scipy.ndimage import gaussian_filter1d  # takes a while to import, and training does not need it

    height, width = inputs.shape[2:]
    sigma = _BLUR * min(height, width)
    # The blur of each pixel alone, so that two matrix products blur whole images.
    down, across = (
        torch.from_numpy(gaussian_filter1d(np.eye(size), sigma, axis=0, mode="mirror")).to(inputs)
        for size in (height, width)
    )
    mask = _mask(inputs, hidden)
    seen = (~mask).to(inputs.dtype)
    # The last channel is the weight of the pixels that are seen.
    blurred = down @ torch.cat([inputs * seen, seen], 1) @ across.T
    return torch.where(mask, blurred[:, :-1] / blurred[:, -1:].clamp_min(1e-6), inputs)


def mean(inputs: torch.Tensor, hidden: NDArray[np.bool_]) -> torch.Tensor:
    """Replace hidden pixels by the data set's mean colour, which is 0 after normalization. Arguments as ``blur``."""
    return inputs.masked_fill(_mask(inputs, hidden), 0.0)


def road(inputs: torch.Tensor, hidden: NDArray[np.bool_]) -> torch.Tensor:
    """Replace hidden pixels by the noisy linear imputation of Rong et al. 2022 (arXiv 2202.00449).

    Each hidden pixel is the weighted mean of its neighbours inside the image, hidden ones included: a sparse linear
    system for each image. Seeded Gaussian noise hides the smooth patches' shape. Arguments as ``blur``.
    """
    # SciPy's sparse solver takes a while to import, and blur is the default.
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import spsolve

    pixels = inputs.detach().permute(0, 2, 3, 1).double().cpu().numpy()  # (N, H, W, C)
    noise = np.random.default_rng(0)
    for image, mask in zip(pixels, hidden, strict=True):
        if not mask.any() or mask.all():
            image[mask] = 0
            continue
        rows, columns = np.nonzero(mask)
        unknown = np.full(mask.shape, -1)
        unknown[mask] = np.arange(len(rows))
        total, known = np.zeros(len(rows)), np.zeros((len(rows), image.shape[2]))
        entries: list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]] = []
        for (down, right), weight in _NEIGHBOURS:
            y, x = rows + down, columns + right
            inside = np.flatnonzero((y >= 0) & (y < mask.shape[0]) & (x >= 0) & (x < mask.shape[1]))
            total[inside] += weight
            other = unknown[y[inside], x[inside]]
            seen = inside[other < 0]
            known[seen] += weight * image[y[seen], x[seen]]
            entries.append((np.full((other >= 0).sum(), -weight), inside[other >= 0], other[other >= 0]))
        entries.append((total, np.arange(len(rows)), np.arange(len(rows))))
        values, equations, unknowns = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        system = csc_array((values, (equations, unknowns)))
        solved = spsolve(system, known).reshape(known.shape)
        image[mask] = solved + _ROAD_NOISE * noise.standard_normal(known.shape)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(inputs)


INFILLS: dict[str, Infill] = {"blur": blur, "mean": mean, "road": road}


def _mask(inputs: torch.Tensor, hidden: NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(hidden).to(inputs.device).unsqueeze(1)  # (N, 1, H, W)
