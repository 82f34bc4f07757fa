"""Networks for small images. Each builder takes ``num_classes``, ``in_channels`` and its own options.

If a network has a method ``initialize(images)``, it is called once with normalized training images before training.
If it has a method ``begin_epoch(epoch)``, it is called before each epoch (counted from 1), except in distributed
training.
"""

from cifar_exp.models.libraries import timm_network, torchvision_network
from cifar_exp.models.resnet import resnet18, resnet34
from cifar_exp.models.resnet9 import resnet9
from cifar_exp.models.speednet import speednet

__all__ = ["resnet9", "resnet18", "resnet34", "speednet", "timm_network", "torchvision_network"]
