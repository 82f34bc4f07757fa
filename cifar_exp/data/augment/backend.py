"""The augmentation backend: Albumentations, image by image on the CPU, or batches on the compute device."""

from dataclasses import dataclass
from typing import Any

import torch

from cifar_exp.data.augment.device_transforms import (
    Colour,
    Cutout,
    DeviceAugmentation,
    HorizontalFlip,
    PadCrop,
    Transform,
)
from cifar_exp.data.augment.pipeline import Augmentation

_LARGEST_PART_OF_MEMORY = 0.25  # of a GPU, for the training images with augment_backend=auto
_CONSTANT, _REFLECT_101 = 0, 4  # OpenCV's border modes


@dataclass(frozen=True)
class Backend:
    """The backend that ``augment_backend`` selects."""

    device_augmentation: DeviceAugmentation | None = None  # the batched transforms; None for Albumentations
    reason: str = ""  # why ``auto`` or ``device`` fell back to Albumentations

    @property
    def name(self) -> str:
        """``albumentations`` or ``device``."""
        return "albumentations" if self.device_augmentation is None else "device"


def choose(requested: str, augmentation: Augmentation, device: torch.device, image_bytes: int) -> Backend:
    """Choose the backend.

    ``auto`` selects the device if it is a CUDA GPU with enough memory for the images. Both ``auto`` and ``device``
    fall back to Albumentations if a transform has no batched equivalent. ``image_bytes`` is the size of the training
    images, held-out ones included.
    """
    if requested == "albumentations" or (requested == "auto" and device.type != "cuda"):
        return Backend()
    batched: list[Transform] = []
    steps = list(augmentation.transforms.items())
    while steps:
        name, step = steps.pop(0)
        following = steps[0][1] if steps else None
        transform = _to_batched(step, following, augmentation.shape)
        if transform is None:
            what = type(getattr(step, "policy", step)).__name__
            return Backend(reason=f"the device cannot apply augment.transforms.{name} ({what} with these arguments)")
        if isinstance(transform, PadCrop):
            del steps[0]
        batched.append(transform)
    if requested == "auto" and image_bytes > _LARGEST_PART_OF_MEMORY * memory_bytes(device):
        size = f"{image_bytes / 1e9:,.1f} GB"
        return Backend(reason=f"the training images take {size}, more than a quarter of the GPU's memory")
    return Backend(DeviceAugmentation(batched, augmentation.shape[:2]))


def memory_bytes(device: torch.device) -> int:
    """Return the total memory of a GPU: the choice must not depend on other programs."""
    return int(torch.cuda.get_device_properties(device).total_memory)


def _to_batched(transform: Any, following: Any, shape: tuple[int, int, int]) -> Transform | None:
    """Convert a transform, or a ``Pad`` with the crop after it, to its batched form; None if the device has none."""
    import albumentations  # at the top, it would be imported by runs that do not augment, too

    kind = type(transform)  # not a subclass, which may differ
    if kind is albumentations.Pad and type(following) is albumentations.RandomCrop:
        return _to_pad_crop(transform, following, shape)
    if kind is albumentations.HorizontalFlip:
        return HorizontalFlip(transform.p)
    return _to_cutout(transform, shape) if kind is albumentations.CoarseDropout else None


def _to_pad_crop(pad: Any, crop: Any, shape: tuple[int, int, int]) -> PadCrop | None:
    height, width, channels = shape
    padding = pad.padding if isinstance(pad.padding, tuple) else (pad.padding, pad.padding)
    left, top, right, bottom = padding if len(padding) == 4 else padding * 2
    fill = _to_colour(pad.fill, channels) if pad.border_mode == _CONSTANT else None
    reflects = pad.border_mode == _REFLECT_101 and max(top, bottom) < height and max(left, right) < width
    crops_back = (crop.height, crop.width) == (height, width) and not crop.pad_if_needed
    if min(pad.p, crop.p) < 1 or not crops_back or not (fill or reflects):
        return None
    return PadCrop(top, bottom, left, right, fill)


def _to_cutout(dropout: Any, shape: tuple[int, int, int]) -> Cutout | None:
    height, width, channels = shape
    heights, widths = tuple(dropout.hole_height_range), tuple(dropout.hole_width_range)
    fill = _to_colour(dropout.fill, channels)
    in_pixels = all(isinstance(side, int) or side.is_integer() for side in (*heights, *widths))
    fits = 1 <= heights[0] <= heights[1] <= height and 1 <= widths[0] <= widths[1] <= width
    if tuple(dropout.num_holes_range) != (1, 1) or fill is None or not (in_pixels and fits):
        return None
    return Cutout((int(heights[0]), int(heights[1])), (int(widths[0]), int(widths[1])), fill, dropout.p)


def _to_colour(fill: Any, channels: int) -> Colour | None:
    """Convert a fill to an integer from 0 to 255 for each channel; None if it is not one."""
    values = fill if isinstance(fill, tuple | list) else (fill,) * channels
    if len(values) != channels or not all(isinstance(v, int | float) and v in range(256) for v in values):
        return None
    return tuple(int(value) for value in values)
