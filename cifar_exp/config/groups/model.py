"""Typed configs of the ``model`` group; the networks are in ``cifar_exp.models``."""

from dataclasses import dataclass
from typing import Annotated

from omegaconf import MISSING

from cifar_exp.config.fields import Allowed, Fraction, Positive, Schema, UpToAMillion, at_least, key
from cifar_exp.config.registry import Group


@dataclass
class ModelConfig(Schema):
    """Keys of every model."""

    _target_: str = MISSING
    name: str = key("option's name, in tables and logs")


MODELS = Group("model", ModelConfig)


@MODELS.option("base_resnet", "cifar_exp.models.resnet18", "cifar_exp.models.resnet34")
@dataclass
class ResNetConfig(ModelConfig):
    """A torchvision ResNet with the CIFAR stem."""


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
    widths: Annotated[list[UpToAMillion], Allowed("three numbers of channels", lambda widths: len(widths) == 3)] = key(
        "channels of the three stages"
    )
    whitening_epsilon: Positive = key("added to the variances when the first layer is set to whiten its patches")
    whitening_bias_epochs: Annotated[int, at_least(0)] = key("epochs in which the first layer's bias is trained")
    norm_momentum: Fraction = key("weight of the newest batch in the running statistics of batch normalization")
    logit_scale: Positive = key("factor by which the outputs are multiplied")
