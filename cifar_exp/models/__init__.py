"""Networks for small images. Each builder takes ``num_classes``, ``in_channels`` and its own options."""

from cifar_exp.models.resnet import resnet18, resnet34
from cifar_exp.models.resnet9 import resnet9

__all__ = ["resnet9", "resnet18", "resnet34"]
