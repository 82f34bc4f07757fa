"""Typed configs of the ``model`` group; the networks are in ``cifar_exp.models``."""

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from cifar_exp.config.fields import Allowed, Fraction, Pixels, Positive, UpToAMillion, at_least, key, one_of
from cifar_exp.config.registry import Group, Option


@dataclass
class ModelConfig(Option):
    """Keys of every model: only those of ``Option``."""


MODELS = Group("model", ModelConfig)


@MODELS.option("base_resnet", "cifar_exp.models.resnet18", "cifar_exp.models.resnet34")
@dataclass
class ResNetConfig(ModelConfig):
    """A torchvision ResNet with the CIFAR stem (a 3x3 convolution without stride, and no max-pool)."""


@MODELS.option("base_resnet9")
@dataclass
class ResNet9Config(ModelConfig):
    """The nine-layer residual network; ``width`` is the channel count of its first layer."""

    _target_: str = "cifar_exp.models.resnet9"
    width: UpToAMillion = key("channels of the first layer")


@MODELS.option("base_speednet")
@dataclass
class SpeedNetConfig(ModelConfig):
    """The small network of ``experiment=speedrun``; see ``cifar_exp.models.speednet``."""

    _target_: str = "cifar_exp.models.speednet"
    widths: Annotated[list[UpToAMillion], Allowed("three channel counts", lambda widths: len(widths) == 3)] = key(
        "channels of the three stages"
    )
    whitening_epsilon: Positive = key("added to the patches' variances when the whitening filters are computed")
    whitening_bias_epochs: Annotated[int, at_least(0)] = key("epochs in which the first layer's bias is trained")
    norm_momentum: Fraction = key("weight of the newest batch in the running statistics of batch normalization")
    logit_scale: Positive = key("factor by which the outputs are multiplied")


@dataclass
class LibraryConfig(ModelConfig):
    """An image classifier of torchvision or timm, chosen by its name."""

    library: ClassVar[str]

    architecture: Annotated[
        str, Allowed("the name of a network", lambda name: re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name) is not None)
    ] = key("name of the network in the library")
    image_size: Pixels = key("height and width of the images in pixels, for networks that are built for one size")
    stem: Annotated[str, one_of("own", "cifar")] = key(
        "own: the library's stem | cifar: no stride and no max-pool before the first stage (ResNets)", "own"
    )
    weights: str | None = key("FILE.safetensors or FILE.pt with the initial weights; null: random", None)
    pretrained: bool = key("start from the library's pretrained weights, which it downloads", False)

    @property
    def starts_from_weights(self) -> bool:
        """Whether training starts from given weights."""
        return self.pretrained or self.weights is not None


@MODELS.option("base_torchvision")
@dataclass
class TorchvisionConfig(LibraryConfig):
    """A network of ``torchvision.models``."""

    _target_: str = "cifar_exp.models.torchvision_network"
    library: ClassVar[str] = "torchvision"


@MODELS.option("base_timm")
@dataclass
class TimmConfig(LibraryConfig):
    """A network of timm."""

    _target_: str = "cifar_exp.models.timm_network"
    library: ClassVar[str] = "timm"
