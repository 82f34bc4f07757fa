"""Typed config of the ``augment`` group, and the transforms that it may name."""

from dataclasses import dataclass, field
from typing import Any

from cifar_exp.config.fields import Fraction, Pixels, Schema, key
from cifar_exp.config.registry import Group

# Albumentations' transforms with plain arguments that keep uint8 images and read no file.
_TRANSFORMS = """
    AdditiveNoise AdvancedBlur Affine AutoContrast Blur CLAHE CenterCrop ChannelDropout ChannelShuffle
    ChromaticAberration CoarseDropout ColorJitter Crop CropAndPad D4 Defocus Downscale ElasticTransform Emboss
    Equalize Erasing FancyPCA GaussNoise GaussianBlur GlassBlur GridDistortion GridDropout GridElasticDeform
    HorizontalFlip HueSaturationValue ISONoise Illumination ImageCompression InvertImg LongestMaxSize MedianBlur
    Morphological MotionBlur MultiplicativeNoise NoOp OpticalDistortion Pad PadIfNeeded Perspective PixelDropout
    PlanckianJitter PlasmaBrightnessContrast PlasmaShadow Posterize RGBShift RandomBrightnessContrast RandomCrop
    RandomCropFromBorders RandomFog RandomGamma RandomGravel RandomGridShuffle RandomRain RandomResizedCrop
    RandomRotate90 RandomScale RandomShadow RandomSizedCrop RandomSnow RandomSunFlare RandomToneCurve Resize
    RingingOvershoot Rotate SafeRotate SaltAndPepper Sharpen ShotNoise SmallestMaxSize Solarize Spatter
    SquareSymmetry Superpixels ThinPlateSpline ToGray ToSepia Transpose UnsharpMask VerticalFlip XYMasking ZoomBlur
    OneOf OneOrOther RandomOrder SelectiveChannelTransform Sequential SomeOf
"""


TORCHVISION_POLICIES = [
    f"torchvision.transforms.v2.{name}" for name in ("AutoAugment", "RandAugment", "TrivialAugmentWide")
]


@dataclass
class LowResolutionConfig(Schema):
    """Train the first epochs on smaller images. ``size: null`` turns it off."""

    size: Pixels | None = key("height and width in pixels in the first epochs; null: off", None)
    fraction: Fraction = key("fraction of the epochs that use the smaller size, rounded", 0.5)


@dataclass
class AugmentConfig(Schema):
    """Named transforms of Albumentations and torchvision, applied in the order of the file."""

    name: str = key("option's name, in tables and logs")
    alternating_flip: bool = key("flip each image in every other epoch, half of them in the first epoch", False)
    low_resolution: LowResolutionConfig = field(default_factory=LowResolutionConfig)
    transforms: dict[str, Any] = field(default_factory=dict)


AUGMENTATIONS = Group("augment", AugmentConfig, {"base_augment": AugmentConfig})
AUGMENTATIONS.allow(f"albumentations.{name}" for name in _TRANSFORMS.split())
AUGMENTATIONS.allow(TORCHVISION_POLICIES)
