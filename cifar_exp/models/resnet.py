"""torchvision's ResNets with a stem for small images: the original one discards 15/16 of the positions."""

from torch import nn

from cifar_exp.errors import RequestError


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


def use_cifar_stem(network: nn.Module, name: str, in_channels: int) -> nn.Module:
    """Give a ResNet a first convolution of stride 1 and no max-pool, in place.

    A single first convolution becomes a new one of 3x3; of a stem of several, the first gets stride 1.

    Raises:
        RequestError: the network's stem is built in another way.
    """
    first = getattr(network, "conv1", None)
    inner = first[0] if isinstance(first, nn.Sequential) else first
    if not isinstance(inner, nn.Conv2d) or not isinstance(getattr(network, "maxpool", None), nn.Module):
        raise RequestError(
            f"model.stem=cifar: {name} does not start with a convolution `conv1` and a max-pool `maxpool`, as ResNets "
            "do; use model.stem=own, or larger images (data.image_size)"
        )
    if not isinstance(first, nn.Sequential):
        stem = nn.Conv2d(in_channels, inner.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision initializes its own
        network.conv1 = stem
    else:
        inner.stride = (1, 1)
    network.maxpool = nn.Identity()
    return network
