"""Albumentations' transforms, already built and thereby checked, as their batched equivalents."""

from collections.abc import Callable, Mapping
from typing import Any

import albumentations
from albumentations.augmentations.geometric import functional as geometric

from cifar_exp.data.augment.device_transforms import (
    CONSTANT,
    CenterCrop,
    CoarseDropout,
    Colour,
    HorizontalFlip,
    Pad,
    RandomCrop,
    Size,
    Transform,
    VerticalFlip,
)
from cifar_exp.errors import RequestError


class NotBatchedError(RequestError):
    """A transform, or an argument of one, that has no batched equivalent."""


class _Built:
    """A built transform, and what it takes to translate it.

    Attributes:
        transform: Albumentations'.
        size: of the images that come to it.
        channels: of the images.
    """

    def __init__(self, name: str, transform: Any, size: Size, channels: int) -> None:
        self._name = name
        self.transform = transform
        self.size = size
        self.channels = channels

    def refuse(self, argument: str, allowed: str) -> NotBatchedError:
        """The error that says what of an argument's values there is."""
        kind, value = type(self.transform).__name__, getattr(self.transform, argument)
        return NotBatchedError(
            f"augment.transforms.{self._name}: albumentations.{kind} with {argument}={value!r}: augment_backend=device "
            f"takes {allowed}; augment_backend=albumentations takes what Albumentations does"
        )

    def colour(self) -> Colour:
        """``fill``, for each channel."""
        fill = self.transform.fill
        values = fill if isinstance(fill, tuple | list) else (fill,) * self.channels
        whole = all(isinstance(value, int | float) and value in range(256) for value in values)
        if len(values) != self.channels or not whole:
            raise self.refuse("fill", "a whole number from 0 to 255, one for each channel, or dataset_mean")
        return tuple(int(value) for value in values)

    def always(self) -> None:
        """Refuse a probability: images that only some of which change their size make up no batch."""
        if self.transform.p < 1:
            raise self.refuse("p", "1 where a transform changes the size of the images")

    def pad(self, sides: tuple[int, int, int, int], position: str = "center") -> list[Transform]:
        """Padding by (top, bottom, left, right) pixels, where there is any."""
        if not any(sides):
            return []
        top, bottom, left, right = geometric.adjust_padding_by_position(
            *sides, position="center" if position == "random" else position, py_random=None
        )
        mode = self.transform.border_mode
        fill = self.colour() if mode == CONSTANT else None
        return [Pad(top, bottom, left, right, mode, fill, anywhere=position == "random")]

    def pad_to(self, height: int | None, width: int | None, *divisors: int | None) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) pixels that are missing to a size, or to a multiple."""
        lacking: tuple[int, int, int, int] = geometric.get_padding_params(
            self.size, height, width, *(divisors or (None, None))
        )
        return lacking


def _pad(built: _Built) -> list[Transform]:
    built.always()
    padding = built.transform.padding
    if isinstance(padding, int):
        padding = (padding, padding)
    left, top, right, bottom = padding * 2 if len(padding) == 2 else padding
    return built.pad((top, bottom, left, right))


def _pad_if_needed(built: _Built) -> list[Transform]:
    built.always()
    transform = built.transform
    lacking = built.pad_to(
        transform.min_height, transform.min_width, transform.pad_height_divisor, transform.pad_width_divisor
    )
    return built.pad(lacking, transform.position)


def _crop(built: _Built, crop: type[RandomCrop] | type[CenterCrop]) -> list[Transform]:
    built.always()
    transform = built.transform
    padding: list[Transform] = []
    if transform.pad_if_needed:
        padding = built.pad(built.pad_to(transform.height, transform.width), transform.pad_position)
    return [*padding, crop(transform.height, transform.width)]


def _coarse_dropout(built: _Built) -> list[Transform]:
    transform = built.transform
    dropout = CoarseDropout(
        transform.num_holes_range,
        transform.hole_height_range,
        transform.hole_width_range,
        built.colour(),
        transform.p,
    )
    if dropout.heights[1] >= 1:
        for argument, wanted, whole in (
            ("hole_height_range", dropout.heights, built.size[0]),
            ("hole_width_range", dropout.widths, built.size[1]),
        ):
            low, high = dropout.in_pixels(wanted, whole)
            if low > high:  # Albumentations would fail at the first image that is to have a hole
                raise built.refuse(argument, f"holes that fit into the image's {whole} pixels")
    return [dropout]


_TRANSLATIONS: dict[type, Callable[[_Built], list[Transform]]] = {
    albumentations.CenterCrop: lambda built: _crop(built, CenterCrop),
    albumentations.CoarseDropout: _coarse_dropout,
    albumentations.HorizontalFlip: lambda built: [HorizontalFlip(built.transform.p)],
    albumentations.Pad: _pad,
    albumentations.PadIfNeeded: _pad_if_needed,
    albumentations.RandomCrop: lambda built: _crop(built, RandomCrop),
    albumentations.VerticalFlip: lambda built: [VerticalFlip(built.transform.p)],
}


def translate(transforms: Mapping[str, Any], shape: tuple[int, int, int]) -> list[Transform]:
    """The batched equivalents of transforms, in their order; one that is never applied is left out.

    Args:
        transforms: Albumentations' own, by the user's names; their attributes are what is read, for Albumentations has
            checked and unified them.
        shape: (H, W, C) of the images.

    Raises:
        NotBatchedError: names the first transform, or argument, that has no equivalent, and what has.
    """
    translated: list[Transform] = []
    size = shape[:2]
    for name, transform in transforms.items():
        translation = _TRANSLATIONS.get(type(transform))  # a subclass may do anything
        if translation is None:
            raise NotBatchedError(
                f"augment.transforms.{name}: augment_backend=device has no {type(transform).__name__}; it has "
                f"{', '.join(sorted(known.__name__ for known in _TRANSLATIONS))}; "
                "augment_backend=albumentations has all"
            )
        if transform.p <= 0:
            continue
        for made in translation(_Built(name, transform, size, shape[2])):
            translated.append(made)
            size = made.after(size)
    return translated
