"""The test images that a run keeps for its page: mistakes, least confident hits, and Grad-CAM maps."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar_exp.run_dir.arrays import read_arrays, write_arrays

FILE = "report_images.npz"
TARGETS = ("predicted", "true")
MOST_SUSPECTS = 20  # images shown because their label is probably wrong

_MOST_IMAGES = 400
_MOST_VALUES = 1_300_000  # bytes before compression: 400 images of 32 x 32 in colour
_MOST_SIDE = 48  # pixels of an image in the gallery
_MOST_CONFIDENT = 100  # mistakes; further ones are spread over the confusion matrix
_MOST_RIGHT, _RIGHT_PER_CLASS = 100, 6
_MOST_EXPLAINED, _MOST_MAPS, _MOST_EXPLAINED_SIDE = 24, 240, 96
_MOST_FILE_BYTES = 2**26


@dataclass(frozen=True)
class KeptImages:
    """Images of the test split and their Grad-CAM maps, reduced to the size that a page needs."""

    index: NDArray[np.int64]  # (n,) positions in the test split
    image: NDArray[np.uint8]  # (n, h, w, C) uint8
    explained: NDArray[np.int64]  # (m,) positions of the images that have maps
    explained_image: NDArray[np.uint8]  # (m, H, W, C) uint8
    layers: tuple[str, ...]  # names
    # (m, layers, 2, H, W) uint8; the maps for the predicted and the true class, each scaled to its own maximum; all 0
    # if the map has no positive value
    heat: NDArray[np.uint8]


def choose_images(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], confidences: NDArray[np.float64], most: int
) -> NDArray[np.int64]:
    """Choose the positions of the images to keep.

    First the most confident mistakes; then the most confident mistake of each pair of classes, the second of each,
    and so on, so that every kind of mistake has an image; last the least confident correct images of each class.

    The arrays are (N,). At most a quarter of the ``most`` images are correct ones.
    """
    by_confidence = np.argsort(-confidences, kind="stable")
    wrong = by_confidence[(labels != predictions)[by_confidence]]
    right = by_confidence[::-1][(labels == predictions)[by_confidence[::-1]]]
    classes = int(max(labels.max(), predictions.max())) + 1
    first, others = wrong[:_MOST_CONFIDENT], wrong[_MOST_CONFIDENT:]
    in_turn = others[np.argsort(_rank_within(labels[others] * classes + predictions[others]), kind="stable")]
    per_class = max(1, min(_RIGHT_PER_CLASS, _MOST_RIGHT // classes))
    least_sure = right[_rank_within(labels[right]) < per_class][: min(_MOST_RIGHT, most // 4)]
    return np.concatenate([np.concatenate([first, in_turn])[: most - len(least_sure)], least_sure])


def _rank_within(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each element, the number of elements before it in its group.

    >>> _rank_within(np.array([7, 3, 7, 7, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    import pandas as pd  # not at the top, as training does not need it

    return np.asarray(pd.Series(groups).groupby(groups).cumcount(), np.int64)


def most_images(shape: tuple[int, int, int]) -> int:
    """Return how many (H, W, C) images, reduced for it, the page may have."""
    height, width, channels = shape
    scale = min(1.0, _MOST_SIDE / max(height, width))
    return min(_MOST_IMAGES, int(_MOST_VALUES / (height * width * scale**2 * channels)))


def most_explained(layers: int) -> int:
    """Return how many images with maps of ``layers`` layers a page may have."""
    return min(_MOST_EXPLAINED, _MOST_MAPS // max(1, layers * len(TARGETS)))


def shrink(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Scale images (N, H, W, C) down to at most ``side`` pixels a side; smaller ones are unchanged."""
    height, width = images.shape[1:3]
    scale = side / max(height, width)
    if scale >= 1 or not len(images):
        return images
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    squeezed = [Image.fromarray(one[:, :, 0] if one.shape[2] == 1 else one) for one in images]
    small = np.stack([np.asarray(one.resize(size, Image.Resampling.LANCZOS)) for one in squeezed])
    return small.reshape(*small.shape[:3], images.shape[3])


def write_images(
    path: Path,
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    explained: NDArray[np.int64],
    layers: Sequence[str],
    heat: NDArray[np.float32],
) -> None:
    """Write the images that the page shows.

    ``images`` (N, H, W, C) uint8 is the whole test split, ``index`` and ``explained`` are positions in it. ``heat`` is
    (m, layers, 2, H, W), not negative.
    """
    peak = heat.max(axis=(-2, -1), keepdims=True, initial=0)
    scaled = np.round(255 * heat / np.where(peak > 0, peak, 1)).astype(np.uint8)
    small = shrink(scaled.reshape(-1, *scaled.shape[-2:], 1), _MOST_EXPLAINED_SIDE)[:, :, :, 0]
    write_arrays(
        path,
        index=index,
        image=shrink(images[index], _MOST_SIDE),
        explained=explained,
        explained_image=shrink(images[explained], _MOST_EXPLAINED_SIDE),
        layers=np.array(list(layers), dtype=np.str_),
        heat=small.reshape(*scaled.shape[:3], *small.shape[1:]),
    )


def read_images(path: Path) -> KeptImages:
    """Read what ``write_images`` wrote. The file is untrusted: nothing is unpickled, and unpacking has a limit.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not such a file, or holds more images than a page may have.
    """
    kept = read_arrays(path, [field.name for field in fields(KeptImages)], most_bytes=_MOST_FILE_BYTES)
    _check_kept(kept)
    # Without maps the layers mean nothing, and there can be any number of them.
    layers = kept["layers"] if kept["explained"].size else ()
    values: dict[str, Any] = {**kept, "layers": tuple(str(name) for name in layers)}
    values |= {name: kept[name].astype(np.int64) for name in ("index", "explained")}
    return KeptImages(**values)


def _check_kept(kept: Mapping[str, NDArray[Any]]) -> None:
    """Raise a ValueError unless the arrays match each other and are within the page's limits.

    A few kilobytes can unpack to a million images.
    """
    images, explained, layers = (kept[name].size for name in ("index", "explained", "layers"))
    # Without images, the sides are those of the data set, which were not reduced.
    side, large = (
        range(1, most + 1) if n else None for n, most in ((images, _MOST_SIDE), (explained, _MOST_EXPLAINED_SIDE))
    )
    allowed: dict[str, tuple[str, Sequence[Container[int] | None]]] = {
        "index": ("i", [range(_MOST_IMAGES + 1)]),
        "image": ("u", [(images,), side, side, (1, 3)]),
        "explained": ("i", [range(most_explained(layers) + 1)]),
        "explained_image": ("u", [(explained,), large, large, (1, 3)]),
        "layers": ("U", [None]),
        # A run without explained images has no layers and no targets.
        "heat": ("u", [(explained,), (layers,), (len(TARGETS),) if layers else None, large, large]),
    }
    for name, (kind, sizes) in allowed.items():
        array = kept[name]
        fits = array.ndim == len(sizes) and all(
            one is None or size in one for size, one in zip(array.shape, sizes, strict=True)
        )
        if not fits or array.dtype.kind != kind or (kind == "u" and array.dtype != np.uint8):
            raise ValueError(f"its {name} is {array.dtype} {array.shape}")
