"""The nine-layer residual network of the DAWNBench entries by David Page (myrtle.ai, 2018)."""

from torch import Tensor, nn


class ResNet9(nn.Module):
    """ResNet-9: a first convolution and three stages at 1/2, 1/4 and 1/8 of the input's size.

    Input (N, in_channels, H, W), output (N, num_classes) logits; H and W at least 8. ``width`` is the number of
    channels of the first convolution; the stages have 2, 4 and 8 times as many. 64 is the original.
    """

    def __init__(self, *, num_classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.stem = _conv_bn_relu(in_channels, width)
        self.layer1 = nn.Sequential(_conv_bn_relu(width, 2 * width), nn.MaxPool2d(2), _Residual(2 * width))
        self.layer2 = nn.Sequential(_conv_bn_relu(2 * width, 4 * width), nn.MaxPool2d(2))
        self.layer3 = nn.Sequential(_conv_bn_relu(4 * width, 8 * width), nn.MaxPool2d(2), _Residual(8 * width))
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:  # (N, C, H, W)
        """Logits."""
        features = self.layer3(self.layer2(self.layer1(self.stem(images))))  # (N, 8 width, H / 8, W / 8)
        # amax, not an adaptive max-pool: its backward pass is repeatable on a GPU.
        logits: Tensor = self.fc(features.amax((2, 3)))  # (N, num_classes)
        # The original scales its logits by 1/8, which keeps the first steps at a high learning rate stable.
        return logits / 8


resnet9 = ResNet9


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv_bn_relu(channels, channels), _conv_bn_relu(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = features + self.body(features)
        return out


def _conv_bn_relu(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )
