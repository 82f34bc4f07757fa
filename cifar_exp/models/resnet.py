"""torchvision's ResNets with the stem for small images."""

from torch import nn

from cifar_exp.models.stem import use_cifar_stem


def resnet18(*, num_classes: int, in_channels: int) -> nn.Module:
    """ResNet-18 (He et al. 2016, section 3) with the CIFAR stem: 11,173,962 parameters at 10 RGB classes.

    Input (N, in_channels, H, W), output (N, num_classes) logits. ``layer1`` to ``layer4`` are its stages, at 1, 1/2,
    1/4 and 1/8 of the input's size.
    """
    from torchvision import models  # not at the top: the other networks do not need it

    return use_cifar_stem(models.resnet18(num_classes=num_classes), "resnet18", in_channels)


def resnet34(*, num_classes: int, in_channels: int) -> nn.Module:
    """ResNet-34 with the CIFAR stem: 21,282,122 parameters at 10 RGB classes; see ``resnet18``."""
    from torchvision import models

    return use_cifar_stem(models.resnet34(num_classes=num_classes), "resnet34", in_channels)
