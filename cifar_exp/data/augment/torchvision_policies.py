"""torchvision's augmentation policies as steps of an Albumentations pipeline.

torchvision draws one set of parameters per call from PyTorch's global generator. So we call it once per image, with a
seed from the transform's stream, and restore the generator afterwards.
"""

from collections.abc import Mapping
from typing import Any

import albumentations
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode

from cifar_exp.config.targets import call
from cifar_exp.errors import RequestError

_MINIMUMS = {"num_ops": 1, "magnitude": 0, "num_magnitude_bins": 2}
_CHOICES = {
    "policy": {policy.value: policy for policy in AutoAugmentPolicy},
    # The modes that Pillow supports for rotation and shear.
    "interpolation": {name: InterpolationMode(name) for name in ("nearest", "bilinear", "bicubic")},
}


class TorchvisionPolicy(albumentations.ImageOnlyTransform):  # type: ignore[misc]  # ships no type information
    """Applies a torchvision policy, ``_target_`` and its arguments, to each image of 1 or 3 channels.

    Raises:
        RequestError: an argument is unknown or wrong. torchvision ignores some wrong values, and rejects others only
            when an image happens to use them.
    """

    def __init__(self, options: Mapping[str, Any], channels: int) -> None:
        super().__init__(p=1.0)
        self.policy = call({key: _argument(key, value, channels) for key, value in options.items()})
        magnitude, bins = (getattr(self.policy, name, 0) for name in ("magnitude", "num_magnitude_bins"))
        if magnitude and magnitude >= bins:
            raise RequestError(f"magnitude={magnitude}: must be below num_magnitude_bins={bins}")

    def apply(self, img: NDArray[np.uint8], **_params: Any) -> NDArray[np.uint8]:
        """(H, W, C) uint8 to the same shape; called by Albumentations."""
        picture = Image.fromarray(img[:, :, 0] if img.shape[2] == 1 else img)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(self.random_generator.integers(2**63)))
            return np.array(self.policy(picture)).reshape(img.shape)


def _argument(key: str, value: Any, channels: int) -> Any:
    """The argument in torchvision's type."""
    if key in _MINIMUMS and (type(value) is not int or value < _MINIMUMS[key]):
        raise RequestError(f"{key}={value}: must be an integer, at least {_MINIMUMS[key]}")
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise RequestError(f"{key}={value}: must be one of {', '.join(_CHOICES[key])}")
        return _CHOICES[key][value]
    if key == "fill" and value is not None:
        colour = value if isinstance(value, tuple) else (value,) * channels
        is_number = all(isinstance(one, int | float) and 0 <= one <= 255 for one in colour)
        if len(colour) != channels or not is_number:
            raise RequestError(
                f"fill={value}: must be dataset_mean, one number from 0 to 255, or {channels} such numbers"
            )
    return value
