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
        whitening_epsilon: added to each eigenvalue of the patches' second moments.
        whitening_bias_epochs: number of first epochs that train the whitening layer's bias. Later epochs skip it,
            because its backward pass is slow.
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
        # The layer has each filter and its negative, because GELU suppresses negative responses.
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
        """Compute the whitening filters from normalized training images (N, in_channels, H, W)."""
        filters = compute_whitening_filters(images, self.whitening_epsilon)
        with torch.no_grad():
            self.whiten.weight.copy_(torch.cat([filters, -filters]))
            self.whiten.get_parameter("bias").zero_()

    def begin_epoch(self, epoch: int) -> None:
        """Train the first layer's bias only in the first epochs (counted from 1)."""
        self.whiten.get_parameter("bias").requires_grad_(epoch <= self.whitening_bias_epochs)

    def forward(self, images: Tensor) -> Tensor:  # (N, C, H, W)
        """Compute logits."""
        features = F.gelu(self.whiten(images))  # (N, 8 C, H - 1, W - 1)
        features = self.layer3(self.layer2(self.layer1(features)))  # (N, widths[2], H / 8, W / 8)
        logits: Tensor = self.fc(features.amax((2, 3)))  # (N, num_classes)
        return logits * self.logit_scale


speednet = SpeedNet  # the _target_ in saved configs


def compute_whitening_filters(images: Tensor, epsilon: float) -> Tensor:
    """Compute filters that whiten the patches of the images. ``epsilon`` limits the gain of small variances.

    Each filter is an eigenvector of the second moments, divided by sqrt(eigenvalue + ``epsilon``) (arXiv 2404.00498).
    The mean is not subtracted, as the network's input has mean 0.

    ``images`` are (N, C, H, W). Returns (C * 4, C, 2, 2), same dtype and device, in ascending order of variance.
    """
    channels = images.shape[1]
    patch_values = channels * PATCH * PATCH
    # In double precision on the CPU, so that the filters are the same on every device.
    moments, count = torch.zeros(patch_values, patch_values, dtype=torch.float64), 0
    for part in images.split(500):  # the patches take four times the memory of the images
        # (n * (H-1) * (W-1), C * 4)
        patches = F.unfold(part.cpu().double(), PATCH).transpose(1, 2).reshape(-1, patch_values)
        moments += patches.T @ patches
        count += len(patches)
    variances, directions = torch.linalg.eigh(moments / count)
    # The sign of an eigenvector is arbitrary: make its largest value positive.
    largest = directions.abs().argmax(dim=0)
    directions = directions * directions[largest, torch.arange(patch_values)].sign()
    filters = (directions / (variances + epsilon).sqrt()).T.reshape(patch_values, channels, PATCH, PATCH)
    return filters.to(images)


def _stage(channels_in: int, channels_out: int, norm_momentum: float) -> nn.Sequential:
    """Make a stage of two convolutions. The pooling before the first norm leaves fewer values to normalize."""
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
    """Make a 3x3 convolution whose first filters pass their input through (Dirac initialization)."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight.data[:channels_in])
    return convolution


def _norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    """Make a batch normalization with a trained shift and a fixed scale."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=momentum)
    norm.weight.requires_grad_(False)
    return norm
