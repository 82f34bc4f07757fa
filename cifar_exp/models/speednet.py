"""A small network that learns fast, after airbench94 (Jordan 2024, arXiv 2404.00498)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 2  # height and width in pixels of the patches that the first layer whitens


class SpeedNet(nn.Module):
    """A whitening layer and three stages at 1/2, 1/4 and 1/8 of the input's size, two convolutions each.

    Input (N, in_channels, H, W), output (N, num_classes) logits; H and W at least 9. ``layer1`` to ``layer3`` are its
    stages. The first layer's filters are not trained: ``initialize`` sets them.

    Args:
        num_classes: number of logits.
        in_channels: channels of the input.
        widths: channels of the three stages; the paper has 64, 256 and 256.
        whitening_epsilon: added to the variances of the patches (pixels have variance 1).
        whitening_bias_epochs: epochs in which the whitening layer's bias is trained; the backward pass through its
            large feature maps is slow.
        norm_momentum: weight of the newest batch in the running statistics of batch normalization.
        logit_scale: factor of the logits, which keeps the first steps small.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        widths: list[int],
        whitening_epsilon: float,
        whitening_bias_epochs: int,
        norm_momentum: float,
        logit_scale: float,
    ) -> None:
        super().__init__()
        patch_values = in_channels * PATCH * PATCH
        # Each direction and its opposite, as GELU suppresses negative responses.
        self.whiten = nn.Conv2d(in_channels, 2 * patch_values, PATCH)
        self.whiten.weight.requires_grad_(False)
        first, second, third = widths
        self.layer1 = _stage(2 * patch_values, first, norm_momentum)
        self.layer2 = _stage(first, second, norm_momentum)
        self.layer3 = _stage(second, third, norm_momentum)
        self.fc = nn.Linear(third, num_classes, bias=False)
        self.whitening_epsilon = whitening_epsilon
        self.whitening_bias_epochs = whitening_bias_epochs
        self.logit_scale = logit_scale

    def initialize(self, images: Tensor) -> None:
        """Set the first layer from training images, (N, in_channels, H, W), normalized."""
        filters = whitening_filters(images, self.whitening_epsilon)
        with torch.no_grad():
            self.whiten.weight.copy_(torch.cat([filters, -filters]))
            self.whiten.get_parameter("bias").zero_()

    def begin_epoch(self, epoch: int) -> None:
        """Train the first layer's bias only in the first epochs (counted from 1)."""
        self.whiten.get_parameter("bias").requires_grad_(epoch <= self.whitening_bias_epochs)

    def forward(self, images: Tensor) -> Tensor:  # (N, C, H, W)
        """Logits."""
        features = F.gelu(self.whiten(images))  # (N, 8 C, H - 1, W - 1)
        features = self.layer3(self.layer2(self.layer1(features)))  # (N, widths[2], H / 8, W / 8)
        logits: Tensor = self.fc(features.amax((2, 3)))  # (N, num_classes)
        return logits * self.logit_scale


speednet = SpeedNet


def whitening_filters(images: Tensor, epsilon: float) -> Tensor:
    """Filters whose responses to the images' patches are uncorrelated, with variance 1 apart from ``epsilon``.

    The eigenvectors of the patches' second moments, each divided by the root of its eigenvalue plus ``epsilon``
    (arXiv 2404.00498), which limits the gain of directions with little variance. The mean is not subtracted, as the
    network's input has mean 0.

    ``images`` are (N, C, H, W); returns (C * 4, C, 2, 2) in their type, in ascending order of variance.
    """
    channels = images.shape[1]
    values = channels * PATCH * PATCH
    # In double precision on the CPU, so that the filters are the same on every device.
    moments, count = torch.zeros(values, values, dtype=torch.float64), 0
    for part in images.split(500):  # patches hold each pixel four times
        patches = F.unfold(part.cpu().double(), PATCH).transpose(1, 2).reshape(-1, values)  # (n * (H-1) * (W-1), C * 4)
        moments += patches.T @ patches
        count += len(patches)
    variances, directions = torch.linalg.eigh(moments / count)
    # The sign of an eigenvector is arbitrary: make its largest value positive.
    largest = directions.abs().argmax(dim=0)
    directions = directions * directions[largest, torch.arange(values)].sign()
    filters = (directions / (variances + epsilon).sqrt()).T.reshape(values, channels, PATCH, PATCH)
    return filters.to(images)


def _stage(channels_in: int, channels_out: int, norm_momentum: float) -> nn.Sequential:
    """Two convolutions. The pooling before the first norm leaves fewer values to normalize."""
    return nn.Sequential(
        _convolution(channels_in, channels_out),
        nn.MaxPool2d(2),
        _norm(channels_out, norm_momentum),
        nn.GELU(),
        _convolution(channels_out, channels_out),
        _norm(channels_out, norm_momentum),
        nn.GELU(),
    )


def _convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    """3x3; the first filters pass their input through (Dirac initialization), the others are random."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight.data[:channels_in])
    return convolution


def _norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    """Batch normalization with a trained shift and a fixed scale."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=momentum)
    norm.weight.requires_grad_(False)
    return norm
