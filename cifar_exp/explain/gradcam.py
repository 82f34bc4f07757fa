"""Grad-CAM maps by Captum, and what hiding the pixels that they mark does to the predictions of the shown images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from cifar_exp.compute.device import Compute
from cifar_exp.compute.seeding import derived_seed
from cifar_exp.data.normalize import Normalizer
from cifar_exp.explain.infill import INFILLS
from cifar_exp.explain.layers import LayerMap, grad_cam

HIDDEN_FRACTION = 0.2
CONTROLS = 5  # other images' masks for each image
RANDOM_DRAWS = 5
TARGETS = ("predicted", "true")


@dataclass(frozen=True)
class CamMap:
    """The explanation of one image by one layer for one target class.

    Each drop is the fall in the target's probability when a fifth of the pixels is hidden; positive if it falls.
    """

    index: int  # position of the image in the test split
    target: str  # ``predicted`` or ``true``
    layer: LayerMap
    coarse: NDArray[np.float32]  # (h, w) the map as Grad-CAM defines it before its ReLU
    heat: NDArray[np.float32]  # (H, W) the ReLU of the map, upsampled bilinearly to the image's size; not negative
    attended_drop: float  # with the most attended pixels replaced by the config's infill
    # The same at the places that the maps of other shown images mark (same layer and target); mean over them. None
    # with a single image.
    control_drop: float | None
    deletion_drop: float  # with the most attended pixels in the mean colour (of 0.1.0)
    # With scattered random pixels in the mean colour (of 0.1.0); mean of the draws. A weak control: scattered holes
    # disturb a network more than connected ones.
    random_drop: float


@dataclass(frozen=True)
class Maps:
    """A layer's maps of several images."""

    coarse: NDArray[np.float32]  # (N, h, w) before Grad-CAM's ReLU
    heat: NDArray[np.float32]  # (N, H, W) after it, upsampled to the images' size
    attended: NDArray[np.bool_]  # (N, H, W) bool, the fifth of the pixels with the most heat


@dataclass(frozen=True)
class Explainer:
    """A network, which is put into evaluation mode, and how it is computed.

    In training mode, attribution would change the statistics of batch normalization.
    """

    model: nn.Module  # the trained network, not compiled
    compute: Compute  # where and how to compute
    normalize: Normalizer  # makes the network's input
    batch_size: int  # most images at a time; as many as a training step has memory for
    infill: str  # what hidden pixels are replaced by; a key of ``INFILLS``

    def __post_init__(self) -> None:
        self.model.eval()

    def maps(self, images: NDArray[np.uint8], classes: NDArray[np.int64], layer: str) -> Maps:
        """Compute Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) of a layer, in float32."""
        coarse, heat, attended = [], [], []
        for part in self._batches(images):
            wanted = torch.from_numpy(classes[part]).to(self.compute.device)
            found = grad_cam(self.model, layer, self.normalize(torch.from_numpy(images[part])), wanted)  # (n, 1, h, w)
            raw, positive = (
                F.interpolate(one, images.shape[1:3], mode="bilinear").squeeze(1).cpu().numpy()
                for one in (found, found.relu())
            )
            coarse.append(found.squeeze(1).cpu().numpy())
            heat.append(positive)
            attended.append(most_attended(positive, raw))
        return Maps(np.concatenate(coarse), np.concatenate(heat), np.concatenate(attended))

    @torch.no_grad()
    def probabilities(
        self,
        images: NDArray[np.uint8],
        classes: NDArray[np.int64],
        hidden: NDArray[np.bool_] | None = None,
        infill: str | None = None,
    ) -> NDArray[np.float64]:
        """Compute the softmax probabilities (N,) of one class for each image, in the precision of the evaluation.

        ``hidden`` (N, H, W) are the pixels to replace, by the explainer's infill unless another one is named.
        """
        found = []
        for part in self._batches(images):
            inputs = self.normalize(torch.from_numpy(images[part]))  # (n, C, H, W)
            if hidden is not None:
                inputs = INFILLS[infill or self.infill](inputs, hidden[part])
            with self.compute.autocast():
                logits = self.model(inputs)
            wanted = torch.from_numpy(classes[part]).to(logits.device).unsqueeze(1)
            found.append(logits.float().softmax(dim=1).gather(1, wanted).squeeze(1).cpu().numpy())
        return np.concatenate(found).astype(np.float64)

    def _batches(self, images: NDArray[np.uint8]) -> list[slice]:
        return [slice(start, start + self.batch_size) for start in range(0, len(images), self.batch_size)]


def explain(
    explainer: Explainer,
    images: NDArray[np.uint8],
    indices: NDArray[np.int64],
    targets: Mapping[str, NDArray[np.int64]],
    layers: Sequence[LayerMap],
    seed: int,
) -> list[CamMap]:
    """Explain images for people to look at.

    ``images`` are (N, H, W, C), at the positions ``indices`` in the test split. ``targets`` are the (N,) classes to
    explain, for ``predicted`` and ``true``.

    Returns:
        A map for each image, layer and target, in that order.
    """
    if not layers or not len(images):
        return []
    controls = control_rows(len(images), derived_seed(seed, "controls"))  # (K, N)
    found: list[CamMap] = []
    for target, classes in targets.items():
        before = explainer.probabilities(images, classes)
        masks = _random_masks(images, indices, seed)
        random = np.mean([explainer.probabilities(images, classes, mask, "mean") for mask in masks], axis=0)
        for layer in layers:
            maps = explainer.maps(images, classes, layer.name)
            attended = before - explainer.probabilities(images, classes, maps.attended)
            deleted = before - explainer.probabilities(images, classes, maps.attended, "mean")
            others = [before - explainer.probabilities(images, classes, maps.attended[rows]) for rows in controls]
            control = np.mean(others, axis=0) if others else None
            found += [
                CamMap(
                    index=int(index),
                    target=target,
                    layer=layer,
                    coarse=maps.coarse[row],
                    heat=maps.heat[row],
                    attended_drop=float(attended[row]),
                    control_drop=None if control is None else float(control[row]),
                    deletion_drop=float(deleted[row]),
                    random_drop=float(before[row] - random[row]),
                )
                for row, index in enumerate(indices)
            ]
    parts = np.arange(len(found)).reshape(len(targets), len(layers), len(indices))
    return [found[place] for place in parts.transpose(2, 1, 0).ravel()]


def control_rows(images: int, seed: int) -> NDArray[np.int64]:
    """Choose other images for each image: seeded derangements (K, N) of 0 to N - 1.

    They are shifts of one shuffled order by 1 to K, so an image meets neither itself nor another one twice. K is
    ``CONTROLS``, or N - 1 if that is smaller.
    """
    order = np.random.default_rng(seed).permutation(images)
    rows = np.zeros((max(min(CONTROLS, images - 1), 0), images), dtype=np.int64)
    for shift, row in enumerate(rows, start=1):
        row[order] = np.roll(order, shift)
    return rows


def _random_masks(images: NDArray[np.uint8], indices: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Draw scattered random pixels of each image, (draws, N, H, W)."""
    height, width = images.shape[1:3]
    hidden = np.zeros((RANDOM_DRAWS, len(indices), height * width), bool)
    for draw, row in np.ndindex(hidden.shape[:2]):
        generator = np.random.default_rng(derived_seed(seed, "random deletion", int(indices[row]), draw))
        hidden[draw, row, generator.permutation(height * width)[: _hidden_pixels(height * width)]] = True
    return hidden.reshape(RANDOM_DRAWS, -1, height, width)


def _hidden_pixels(pixels: int) -> int:
    return round(HIDDEN_FRACTION * pixels)


def most_attended(heat: NDArray[np.float32], raw: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return masks (N, H, W) of the most attended pixels: by the heat that is shown, then by the map before its ReLU.

    The second key matters where less than a fifth of the image has any heat: it prefers the least negative pixels.
    """
    order = np.lexsort((-raw.reshape(len(raw), -1), -heat.reshape(len(heat), -1)))
    hidden = np.zeros(order.shape, bool)
    np.put_along_axis(hidden, order[:, : _hidden_pixels(order.shape[1])], True, axis=1)
    return hidden.reshape(heat.shape)


def gradcam_rows(
    maps: Sequence[CamMap], labels: Mapping[int, str], predictions: Mapping[int, str]
) -> list[Mapping[str, Any]]:
    """Make the rows of ``gradcam.csv``.

    ``peak_row`` and ``peak_column`` say where the heat is largest, in image pixels counted from 0 at the top left;
    they are None if there is no heat.
    """
    rows: list[Mapping[str, Any]] = []
    for cam in maps:
        peak = divmod(int(cam.heat.argmax()), cam.heat.shape[1]) if cam.heat.max() > 0 else (None, None)
        rows.append(
            {
                "index": cam.index,
                "label": labels[cam.index],
                "prediction": predictions[cam.index],
                "target": cam.target,
                "layer": cam.layer.name,
                "map_height": cam.layer.height,
                "map_width": cam.layer.width,
                "peak_row": peak[0],
                "peak_column": peak[1],
                "deletion_drop": cam.deletion_drop,
                "random_drop": cam.random_drop,
                "attended_drop": cam.attended_drop,
                "control_drop": cam.control_drop,
            }
        )
    return rows
