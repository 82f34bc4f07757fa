"""Augmentation by Albumentations and torchvision, with stricter checks and repeatable random streams.

- An unknown or renamed argument is an error; Albumentations only warns and uses its default.
- Each transform, nested ones included, has its own random stream for each batch. The stream depends on the batch's seed
  and the transform's place in the config, not on the number of loader processes or the order of the batches.
  Albumentations gives all transforms the same stream, so that two flips, for instance, always happen together.
- Images are uint8 and keep their shape; normalization is not part of augmentation.
"""

import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_exp.compute.seeding import derived_seed
from cifar_exp.config.groups.augment import TORCHVISION_POLICIES
from cifar_exp.config.targets import call
from cifar_exp.errors import RequestError, in_a_line

DATASET_MEAN = "dataset_mean"  # as a transform's fill: the training split's mean colour

# Read when Albumentations is imported; without it, the import asks a package index for a newer version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


class Augmentation:
    """The transforms of an ``augment`` node, applied in the order in which they are written.

    Args:
        nodes: mappings with ``_target_`` and arguments, by names of the user's.
        colour: mean colour of the training split, one value in 0..255 for each channel.
        shape: (H, W, C) of the images, which the transforms must keep.

    Raises:
        RequestError: a transform or argument is unknown, or the transforms change shape or type.
    """

    def __init__(
        self, nodes: dict[str, dict[str, Any]], colour: tuple[float, ...], shape: tuple[int, int, int]
    ) -> None:
        self.shape = shape
        self.transforms = {name: _build(name, node, colour) for name, node in nodes.items()}
        self._streams = [item for name, built in self.transforms.items() for item in _list_nested(name, built)]
        self._pipeline = None
        if nodes:
            import albumentations  # takes seconds; not at the top, as not every run augments

            self._pipeline = albumentations.Compose(list(self.transforms.values()))
            try:
                self(np.zeros((1, *shape), np.uint8), seed=0)
            except RequestError:
                raise
            except Exception as error:  # errors of Albumentations and OpenCV have no common base
                raise RequestError(f"augment: cannot be applied to {shape} images: {in_a_line(error)}") from error

    def __call__(self, images: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Augment (N, H, W, C) uint8 images with the seed of all random draws.

        Without transforms, returns the images themselves.
        """
        if self._pipeline is None:
            return images
        # Once for each batch; a transform then draws new parameters for each image.
        for place, transform in self._streams:
            transform.set_random_seed(derived_seed(seed, place))
        augmented = [self._pipeline(image=image)["image"] for image in images]
        for image in augmented:
            if image.shape != self.shape or image.dtype != np.uint8:
                raise RequestError(
                    f"augment: the transforms changed images from {self.shape} uint8 to {image.shape} {image.dtype}; "
                    "end with a crop or resize to data.image_size, and without normalization"
                )
        return np.stack(augmented)


class LowResolution:
    """Reduces the images of the first epochs: faster steps while the network learns coarse features."""

    def __init__(self, size: int, fraction: float, epochs: int) -> None:
        self.size = size  # height and width, in pixels
        self.epochs = round(fraction * epochs)  # with smaller images

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize (N, H, W, C) uint8 to (N, size, size, C), bilinear with antialiasing."""
        resized: NDArray[np.uint8] = self.on_device(torch.from_numpy(np.ascontiguousarray(images))).numpy()
        return resized

    def on_device(self, images: torch.Tensor) -> torch.Tensor:
        """Resize a tensor on its device.

        Only a CPU can compute this on bytes, with integer weights; other devices use ``shrink_as_floats``.
        """
        pixels = images.permute(0, 3, 1, 2)
        if images.device.type == "cpu":
            small = _resize(pixels, (self.size, self.size))
        else:
            small = shrink_as_floats(pixels, self.size)
        return small.permute(0, 2, 3, 1).contiguous()


def shrink_as_floats(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Resize (N, C, H, W) uint8 to (N, C, size, size) uint8, computed in float32.

    Rounds half up after each direction, as a CPU does that computes on bytes. The CPU also rounds its weights, so some
    pixels differ, by at most 2.
    """
    values = pixels.float()
    for shape in ((pixels.shape[2], size), (size, size)):
        values = (_resize(values, shape) + 0.5).floor()
    return values.clamp(0, 255).to(torch.uint8)


def _resize(pixels: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    return torch.nn.functional.interpolate(pixels, shape, mode="bilinear", antialias=True)


def _list_nested(place: str, transform: Any) -> Iterator[tuple[str, Any]]:
    """Yield a transform and its nested ones with their places in the config; outer ones first: their seed sets all."""
    if hasattr(transform, "set_random_seed"):  # a trusted package may provide any callable
        yield place, transform
    for number, inner in enumerate(getattr(transform, "transforms", ())):
        yield from _list_nested(f"{place}.transforms.{number}", inner)


def _build(name: str, node: Any, colour: tuple[float, ...]) -> Any:
    if not isinstance(node, dict) or "_target_" not in node:
        raise RequestError(f"augment.transforms.{name}: needs a _target_, such as albumentations.HorizontalFlip")
    options = {
        key: [_build(f"{name}.{key}", item, colour) for item in value]
        if key == "transforms" and isinstance(value, list)
        else _convert_argument(value, colour)
        for key, value in node.items()
    }
    with warnings.catch_warnings():
        # Albumentations only warns of wrong arguments and values.
        warnings.simplefilter("error", UserWarning)
        try:
            if node["_target_"] in TORCHVISION_POLICIES:
                from cifar_exp.data.augment.torchvision_policies import TorchvisionPolicy  # loads torchvision

                return TorchvisionPolicy(options, len(colour))
            return call(options)
        except RequestError as error:
            raise RequestError(f"augment.transforms.{name}: {error}") from error
        except (UserWarning, ValueError, TypeError) as error:
            raise RequestError(f"augment.transforms.{name}: {node['_target_']}: {in_a_line(error)}") from error


def _convert_argument(value: Any, colour: tuple[float, ...]) -> Any:
    if value == DATASET_MEAN:
        return tuple(round(channel) for channel in colour)  # images are uint8
    return tuple(value) if isinstance(value, list) else value
