"""Networks for small images. Each builder takes ``num_classes``, ``in_channels`` and its own options.

A network with a method ``initialize(images)`` is given training images once, normalized, before training starts; one
with a method ``begin_epoch(epoch)`` is told each epoch's number, counted from 1, before its first step, unless several
processes train it.
"""

from cifar_exp.models.resnet import resnet18, resnet34
from cifar_exp.models.resnet9 import resnet9
from cifar_exp.models.speednet import speednet

__all__ = ["resnet9", "resnet18", "resnet34", "speednet"]
