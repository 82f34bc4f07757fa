"""Networks of a user's own for tests of several processes, which also import this module."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn


class _Calls(nn.Module):
    """Fails, or has torchrun stopped, in the process and training step that ``TEST_AT`` names (``rank:step``)."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        here = f"{os.environ.get('RANK')}:{self.calls}"
        if self.training and here == os.environ.get("TEST_AT"):
            Path(os.environ["TEST_NOTE"]).write_text(str(time.time()))
            if os.environ["TEST_DO"] == "raise":
                raise RuntimeError("out of luck")
            os.kill(os.getppid(), signal.SIGTERM)  # torchrun, as a cluster does it
        return images


def plain(*, num_classes: int, in_channels: int, width: int, dropout: float = 0.0) -> nn.Module:
    """Two convolutions without batch normalization."""
    return nn.Sequential(
        _Calls(),
        nn.Conv2d(in_channels, width, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, stride=2),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(36 * width, num_classes),
    )
