"""Grad-CAM maps by Captum, and how much they matter to the network.

A map is only a picture until it is tested. The test is deletion: hide the pixels that the map points at and see how
far the probability falls, against hiding as many random ones (after Petsiuk et al. 2018, arXiv 1806.07421).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captum.attr import LayerAttribution
from numpy.typing import NDArray
from torch import nn

from cifar_exp.compute.device import Compute
from cifar_exp.compute.seeding import derived_seed
from cifar_exp.data.normalize import Normalizer
from cifar_exp.explain.layers import LayerMap, grad_cam

DELETED_FRACTION = 0.2
RANDOM_DRAWS = 5
TARGETS = ("predicted", "true")


@dataclass(frozen=True)
class CamMap:
    """The explanation of one image by one layer for one target class.

    Attributes:
        index: position of the image in the test split.
        target: ``predicted`` or ``true``.
        coarse: (h, w) the map as Grad-CAM defines it before its ReLU.
        heat: (H, W) the ReLU of the map, upsampled bilinearly to the image's size; not negative.
        deletion_drop: fall in the target's probability with the most attended fifth of the pixels hidden.
        random_drop: the same with random pixels; mean of the draws.
    """

    index: int
    target: str
    layer: LayerMap
    coarse: NDArray[np.float32]
    heat: NDArray[np.float32]
    deletion_drop: float
    random_drop: float


def explain(
    model: nn.Module,
    images: NDArray[np.uint8],
    indices: NDArray[np.int64],
    targets: Mapping[str, NDArray[np.int64]],
    layers: Sequence[LayerMap],
    *,
    compute: Compute,
    normalize: Normalizer,
    seed: int,
    batch_size: int,
) -> list[CamMap]:
    """Explain images by Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391), in float32.

    For a batch, each layer and target takes a forward and a backward pass, and a forward pass more for the deletion
    test; the random deletions are a few forward passes for all maps together.

    Args:
        model: the trained network, not compiled. Its mode and gradients are left as they were.
        images: (N, H, W, C) uint8.
        indices: (N,) the images' positions in the test split; they also seed the random deletions.
        targets: for ``predicted`` and ``true``, the (N,) classes to explain.
        layers: from ``choose_layers``.
        compute: where to compute.
        normalize: makes the network's input; its mean colour, which becomes 0, hides pixels.
        seed: of the random deletions.
        batch_size: most images at a time; as many as a training step has memory for.

    Returns:
        A map for each image, layer and target, in that order.
    """
    if not layers:
        return []
    was_training = model.training
    # In training mode, attribution would change the statistics of batch normalization.
    model.eval()
    maps: list[CamMap] = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        inputs = normalize(torch.from_numpy(images[part]))  # (N, C, H, W)
        classes = {name: torch.from_numpy(values[part]).to(compute.device) for name, values in targets.items()}
        maps += _explain_batch(model, inputs, indices[part], classes, layers, seed)
    model.train(was_training)
    return maps


def _explain_batch(
    model: nn.Module,
    inputs: torch.Tensor,
    indices: NDArray[np.int64],
    classes: Mapping[str, torch.Tensor],
    layers: Sequence[LayerMap],
    seed: int,
) -> list[CamMap]:
    size = tuple(inputs.shape[2:])
    whole = _probabilities(model, inputs)
    random = _random_probabilities(model, inputs, indices, seed)
    maps: dict[tuple[int, str, str], CamMap] = {}
    for target, wanted in classes.items():
        for layer in layers:
            coarse = grad_cam(model, layer.name, inputs, wanted)  # (N, 1, h, w)
            raw = LayerAttribution.interpolate(coarse, size, interpolate_mode="bilinear").squeeze(1)
            heat = LayerAttribution.interpolate(coarse.relu(), size, interpolate_mode="bilinear").squeeze(1)
            hidden = _most_attended(heat.cpu().numpy(), raw.cpu().numpy())  # (N, H, W)
            deleted = _probabilities(model, _hide(inputs, hidden))
            for row, index in enumerate(indices):
                column = int(wanted[row])
                before = float(whole[row, column])
                maps[row, layer.name, target] = CamMap(
                    index=int(index),
                    target=target,
                    layer=layer,
                    coarse=coarse[row, 0].cpu().numpy(),
                    heat=heat[row].cpu().numpy(),
                    deletion_drop=before - float(deleted[row, column]),
                    random_drop=before - float(random[row, column]),
                )
    return [maps[row, layer.name, target] for row in range(len(indices)) for layer in layers for target in classes]


@torch.no_grad()
def _probabilities(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Softmax probabilities, (N, classes); ``inputs`` stays as it is, whatever the network does with its input."""
    logits: torch.Tensor = model(inputs.clone())
    return logits.softmax(dim=1)


def _random_probabilities(
    model: nn.Module, inputs: torch.Tensor, indices: NDArray[np.int64], seed: int
) -> torch.Tensor:
    """Mean probabilities over the draws of random hidden pixels, (N, classes)."""
    height, width = inputs.shape[2:]
    count = _hidden_pixels(height, width)
    total = torch.zeros(1, device=inputs.device)
    for draw in range(RANDOM_DRAWS):
        hidden = np.zeros((len(indices), height * width), bool)
        for row, index in enumerate(indices):
            generator = np.random.default_rng(derived_seed(seed, "random deletion", int(index), draw))
            hidden[row, generator.permutation(height * width)[:count]] = True
        total = total + _probabilities(model, _hide(inputs, hidden.reshape(-1, height, width)))
    return total / RANDOM_DRAWS


def _hidden_pixels(height: int, width: int) -> int:
    return round(DELETED_FRACTION * height * width)


def _most_attended(heat: NDArray[np.float32], raw: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Masks (N, H, W) of the most attended pixels: by the heat that is shown, then by the map before its ReLU.

    The second key matters where less than a fifth of the image has any heat: it prefers the least negative pixels.
    """
    count = _hidden_pixels(*heat.shape[1:])
    hidden = np.zeros((len(heat), heat[0].size), bool)
    for row in range(len(heat)):
        hidden[row, np.lexsort((-raw[row].ravel(), -heat[row].ravel()))[:count]] = True
    return hidden.reshape(heat.shape)


def _hide(inputs: torch.Tensor, hidden: NDArray[np.bool_]) -> torch.Tensor:
    """Give pixels the data set's mean colour, which is 0 after normalization."""
    mask = torch.from_numpy(hidden).to(inputs.device).unsqueeze(1)  # (N, 1, H, W)
    return inputs.masked_fill(mask, 0.0)


def gradcam_rows(
    maps: Sequence[CamMap], labels: Mapping[int, str], predictions: Mapping[int, str]
) -> list[Mapping[str, Any]]:
    """Rows of ``gradcam.csv``.

    ``peak_row`` and ``peak_column`` say where the heat is largest, in image pixels counted from 0 at the top left;
    they are None where there is no heat.
    """
    rows: list[Mapping[str, Any]] = []
    for cam in maps:
        peak = np.unravel_index(int(cam.heat.argmax()), cam.heat.shape) if cam.heat.max() > 0 else (None, None)
        rows.append(
            {
                "index": cam.index,
                "label": labels[cam.index],
                "prediction": predictions[cam.index],
                "target": cam.target,
                "layer": cam.layer.name,
                "map_height": cam.layer.height,
                "map_width": cam.layer.width,
                "peak_row": None if peak[0] is None else int(peak[0]),
                "peak_column": None if peak[1] is None else int(peak[1]),
                "deletion_drop": cam.deletion_drop,
                "random_drop": cam.random_drop,
            }
        )
    return rows
