"""Which callables a configuration may name: every ``_target_`` is checked here before anything is called.

A config file can come from someone else, and Hydra's ``instantiate`` would call whatever it names. So each
group may only name what is listed here; a package of the user's own is let in by ``trust=[package]``.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.utils import get_object

from cifar_exp.errors import RequestError, in_a_line

# Albumentations' transforms that take plain values, keep uint8 images uint8, and read no file.
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

ALLOWED: dict[str, frozenset[str]] = {
    "model": frozenset(f"cifar_exp.models.{name}" for name in ("resnet18", "resnet34", "resnet9", "speednet")),
    "data": frozenset(
        f"cifar_exp.data.{name}" for name in ("cifar10", "cifar100", "image_folder", "image_csv", "mnist5k")
    ),
    "augment": frozenset(f"albumentations.{name}" for name in _TRANSFORMS.split()),
    "optimizer": frozenset(
        f"torch.optim.{name}" for name in ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad")
    )
    | {"cifar_exp.training.muon.Muon"},
    "scheduler": frozenset(
        f"cifar_exp.training.schedule.{name}" for name in ("one_cycle", "cosine", "multistep", "triangle", "constant")
    ),
}

_MADE_BY_THE_RUNNER = {
    "albumentations.Normalize",
    "albumentations.ToFloat",
    "albumentations.ToTensorV2",
}


def check_targets(config: dict[str, Any], trusted: list[str]) -> None:
    """Refuse a configuration that names a callable outside the allow-list.

    Args:
        config: the whole configuration as plain containers.
        trusted: top-level packages whose callables are let in as well.

    Raises:
        RequestError: names the first offending value, where it stands and what is allowed there.
    """
    for path, target in _targets(config, ""):
        if not isinstance(target, str):
            raise RequestError(f"{path}={target}: must be the name of a callable")
        group = path.split(".", 1)[0]
        allowed = ALLOWED.get(group, frozenset())
        if target in allowed or target.split(".", 1)[0] in trusted:
            continue
        if target in _MADE_BY_THE_RUNNER:
            raise RequestError(
                f"{path}={target}: leave it out; images stay uint8 and the runner normalizes them in batch"
            )
        near = sorted(allowed) if len(allowed) <= 8 else ["albumentations' transforms of plain values"]
        raise RequestError(
            f"{path}={target}: not on the list of what {group!r} may call ({', '.join(near) or 'nothing'}); "
            "a package of your own is let in by trust=[PACKAGE]"
        )


def _targets(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every ``_target_`` in nested containers, with its dotted path."""
    if isinstance(node, dict):
        for key, value in node.items():
            here = f"{path}.{key}" if path else str(key)
            if key == "_target_":
                yield here, value
            else:
                yield from _targets(value, here)
    elif isinstance(node, list | tuple):
        for position, value in enumerate(node):
            yield from _targets(value, f"{path}.{position}")


def call(node: dict[str, Any], *arguments: Any, without: tuple[str, ...] = (), **extra: Any) -> Any:
    """Call what a checked node names, with the node's other keys as keyword arguments.

    Args:
        node: a group's node; its ``_target_`` has passed ``check_targets``.
        arguments: positional arguments to put in front.
        without: keys of the node that are not the callable's business (``name`` never is).
        extra: keyword arguments that the configuration does not hold.

    Raises:
        RequestError: there is no such callable, it does not take these arguments, or it fails with them.
    """
    target = node["_target_"]
    options = {key: value for key, value in node.items() if key not in ("_target_", "name", *without)}
    try:
        function = get_object(target)
    except Exception as error:  # Hydra wraps whatever the import raised
        raise RequestError(
            f"_target_={target}: cannot be imported ({' '.join(str(error).split())}); "
            "a package of your own must be installed or on PYTHONPATH"
        ) from error
    if twice := sorted(options.keys() & extra.keys()):
        raise RequestError(f"{target}: {', '.join(twice)} is given by the runner (the learning rate is max_lr)")
    try:
        # Binding alone finds a wrong argument's name without hiding a TypeError from inside the call.
        inspect.signature(function).bind(*arguments, **options, **extra)
    except TypeError as error:
        given = f" (the runner itself passes {', '.join(extra)})" if extra else ""
        raise RequestError(f"{target}: {error}{given}{_how_to_wrap(target, extra)}") from error
    try:
        return function(*arguments, **options, **extra)
    except RequestError:
        raise
    except Exception as error:
        if target.startswith(f"{__package__}."):  # an error of our own is no wrong request
            raise
        passed = ", ".join(f"{key}={value!r}" for key, value in {**options, **extra}.items())[:300]
        raise RequestError(
            f"{target}: fails with the arguments {passed}: {in_a_line(error)}{_how_to_wrap(target, extra)}"
        ) from error


def _how_to_wrap(target: str, extra: Mapping[str, Any]) -> str:
    """What to do about a user's own callable that does not take what the runner passes."""
    if not extra or target.split(".")[0] in (__package__, "torch", "albumentations"):
        return ""
    name = target.rsplit(".", 1)[-1]
    return (
        f"; the runner always passes {', '.join(extra)}: if {name} calls them otherwise, name a function of your own "
        f"instead that takes these and calls {name} (docs/networks.md)"
    )
