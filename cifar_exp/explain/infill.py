"""What hidden pixels are replaced by: a blur of the others, the data set's mean colour, or ROAD's imputation."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

Infill = Callable[[torch.Tensor, NDArray[np.bool_]], torch.Tensor]

_BLUR = 1 / 8  # standard deviation, of the image's smaller side
_ROAD_NOISE = 0.01  # standard deviation, in the unit of the network's input


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
    from scipy import sparse  # takes a while to import, and blur is the default
    from scipy.sparse.linalg import spsolve

    down, across = (sparse.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(n, n)) for n in inputs.shape[2:])
    edges = sparse.kron(down, sparse.eye_array(across.shape[0])) + sparse.kron(sparse.eye_array(down.shape[0]), across)
    # (H x W, H x W): the weights of each pixel's neighbours, of which those at the corners are farther away.
    weights = sparse.csr_array(edges / 6 + sparse.kron(down, across) / 12)
    totals = weights.sum(axis=1)
    pixels = inputs.detach().flatten(2).double().cpu().numpy().copy()  # (N, C, H x W)
    noise = np.random.default_rng(0)
    for image, mask in zip(pixels, hidden.reshape(len(hidden), -1), strict=True):
        if not mask.any() or mask.all():
            image[:, mask] = 0
            continue
        own = weights[mask]
        known = own[:, ~mask] @ image[:, ~mask].T  # (hidden pixels, C)
        system = sparse.diags_array(totals[mask]) - own[:, mask]
        solved = spsolve(system.tocsc(), known).reshape(known.shape)
        image[:, mask] = (solved + _ROAD_NOISE * noise.standard_normal(known.shape)).T
    return torch.empty_like(inputs).copy_(torch.from_numpy(pixels).view(inputs.shape))


INFILLS: dict[str, Infill] = {"blur": blur, "mean": mean, "road": road}


def _mask(inputs: torch.Tensor, hidden: NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(hidden).to(inputs.device).unsqueeze(1)  # (N, 1, H, W)
