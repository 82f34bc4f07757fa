"""Test-time augmentation: a prediction from several views of an image, reported beside the one from the image alone."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_exp.compute.device import Compute
from cifar_exp.data import Split
from cifar_exp.data.normalize import Normalizer


def view_logits(model: nn.Module, inputs: Tensor, views: str) -> Tensor:
    """Logits averaged over views of each image (Jordan 2024, arXiv 2404.00498).

    Args:
        model: in evaluation mode.
        inputs: (N, C, H, W).
        views: ``none``: the image. ``mirror``: it and its mirror image, half each. ``mirror_translate``: these two
            (a quarter each), and the four of the image moved by one pixel up and left or down and right, its border
            reflected (an eighth each).

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


@torch.inference_mode()
def view_accuracy(
    model: nn.Module,
    split: Split,
    views: str,
    *,
    compute: Compute,
    normalize: Normalizer,
    batch_size: int,
    after_batch: Callable[[], None] = lambda: None,
) -> float:
    """Fraction of ``split`` that is right by ``view_logits``; the model's training mode is restored afterwards."""
    was_training = model.training
    model.eval()
    right = 0
    for start in range(0, len(split), batch_size):
        images = torch.from_numpy(split.images[start : start + batch_size])
        labels = torch.from_numpy(split.labels[start : start + batch_size]).to(compute.device)
        with compute.autocast():
            logits = view_logits(model, normalize(images), views)
        right += int((logits.float().argmax(dim=1) == labels).sum())
        after_batch()
    model.train(was_training)
    return right / len(split)
