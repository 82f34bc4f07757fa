"""torchvision's ResNets with the stem for small images."""

import torchvision
from torch import nn


def resnet18(*, num_classes: int, in_channels: int) -> nn.Module:
    """ResNet-18 (He et al. 2016, section 3) with the CIFAR stem: 11,173,962 parameters at 10 RGB classes.

    Input (N, in_channels, H, W), output (N, num_classes) logits. ``layer1`` to ``layer4`` are its stages, at 1, 1/2,
    1/4 and 1/8 of the input's size.
    """
    return _with_cifar_stem(torchvision.models.resnet18(num_classes=num_classes), in_channels)


def resnet34(*, num_classes: int, in_channels: int) -> nn.Module:
    """ResNet-34 with the CIFAR stem: 21,282,122 parameters at 10 RGB classes; see ``resnet18``."""
    return _with_cifar_stem(torchvision.models.resnet34(num_classes=num_classes), in_channels)


def _with_cifar_stem(network: nn.Module, in_channels: int) -> nn.Module:
    """A 3x3 first convolution of stride 1 and no max-pool: the original stem discards 15/16 of the positions."""
    stem = nn.Conv2d(in_channels, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision initializes its own
    network.conv1 = stem
    network.maxpool = nn.Identity()
    return network
