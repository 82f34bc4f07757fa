"""Test-time augmentation: a prediction from several views of an image, reported beside the one from the image alone."""

from torch import Tensor, nn
from torch.nn import functional as F


def view_logits(model: nn.Module, inputs: Tensor, views: str) -> Tensor:
    """Logits averaged over views of each image (Jordan 2024, arXiv 2404.00498).

    ``none``: the image. ``mirror``: it and its mirror image, half each. ``mirror_translate``: these two (a quarter
    each), and the four of the image moved by one pixel up and left or down and right, its border reflected (an eighth
    each).

    Returns:
        (N, classes).
    """

    def mirrored(images: Tensor) -> Tensor:
        flipped = images.flip(-1)
        return (model(images.clone()) + model(flipped)) / 2  # a copy: the network may change its input in place

    if views == "none":
        logits: Tensor = model(inputs)
        return logits
    if views == "mirror":
        return mirrored(inputs)
    height, width = inputs.shape[2:]
    padded = F.pad(inputs, (1, 1, 1, 1), mode="reflect")
    moved = [padded[:, :, start : start + height, start : start + width] for start in (0, 2)]
    return mirrored(inputs) / 2 + (mirrored(moved[0]) + mirrored(moved[1])) / 4
