"""A trained network as others use it: from pixels to probabilities."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """Normalization, network and softmax: (N, C, H, W) uint8 images to (N, classes) float32 probabilities."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        # In the order of operations of the training: one subtraction and one product.
        self.register_buffer("mean", torch.tensor([255 * value for value in mean]).view(1, -1, 1, 1))
        self.register_buffer("scale", torch.tensor([1 / (255 * value) for value in std]).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:  # (N, C, H, W)
        """Probabilities."""
        logits: Tensor = self.network((images.float() - self.mean) * self.scale)
        return logits.softmax(dim=1)
