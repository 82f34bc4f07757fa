"""The baseline: training and evaluation as most people write them.

float32, NCHW, eager, a DataLoader with two worker processes and transforms for one image at a time. The same network,
optimizer, schedule, batch size and augmentation as the product's default, by the same libraries.
"""

import os
from collections.abc import Iterator

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no request to a package index at import

import albumentations as A
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from cifar_exp.models import resnet18

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
FILL = tuple(round(255 * value) for value in MEAN)


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Images in memory, transformed one at a time."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: A.Compose) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(image=self.images[index])["image"], int(self.labels[index])


def training_transforms() -> A.Compose:
    return A.Compose(
        [
            A.Pad(padding=4, fill=FILL),
            A.RandomCrop(32, 32),
            A.HorizontalFlip(p=0.5),
            A.CoarseDropout((1, 1), (8, 8), (8, 8), fill=FILL, p=1.0),
            A.Normalize(MEAN, STD),
            ToTensorV2(),
        ]
    )


def test_transforms() -> A.Compose:
    return A.Compose([A.Normalize(MEAN, STD), ToTensorV2()])


class Training:
    """A training loop that can be stopped and gone on with after any number of steps."""

    def __init__(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], batch_size: int, device: torch.device
    ) -> None:
        self.device = device
        self.loader = DataLoader(
            Images(images, labels, training_transforms()),
            batch_size=batch_size,
            shuffle=True,
            num_workers=2,
            pin_memory=device.type == "cuda",
            drop_last=True,
        )
        self.model = resnet18(num_classes=10, in_channels=3).to(device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, max_lr=0.1, total_steps=1_000_000)
        self._batches = self._forever()

    def _forever(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from self.loader

    def steps(self, count: int) -> None:
        """Train for so many steps, with a progress bar."""
        self.model.train()
        correct = seen = 0
        bar = tqdm(range(count), leave=False, disable=None)
        for _ in bar:
            images, labels = next(self._batches)
            images, labels = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            outputs = self.model(images)
            loss = F.cross_entropy(outputs, labels)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            correct += (outputs.argmax(1) == labels).sum().item()
            seen += len(labels)
            bar.set_description(f"loss {loss.item():.4f}, accuracy {correct / seen:.2%}")


def evaluate(
    model: nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    batch_size: int,
    device: torch.device,
) -> tuple[float, float]:
    """Loss and accuracy."""
    loader = DataLoader(Images(images, labels, test_transforms()), batch_size=batch_size, num_workers=2)
    model.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for pixels, wanted in loader:
            pixels, wanted = pixels.to(device), wanted.to(device)
            outputs = model(pixels)
            loss += F.cross_entropy(outputs, wanted, reduction="sum").item()
            correct += (outputs.argmax(1) == wanted).sum().item()
    return loss / len(images), correct / len(images)
