"""The weights of a checkpoint, with the class names and statistics that belong to them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cifar_exp.data.normalize import Statistics
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import checkpoint


@dataclass(frozen=True)
class Weights:
    """A checkpoint with what it takes to use it."""

    state: dict[str, Any]  # the checkpoint's content; ``model`` holds the weights
    class_names: tuple[str, ...]  # in the order of the labels
    # Of the training images. They belong to the weights: those of other data would shift every input.
    statistics: Statistics

    def load_into(self, model: nn.Module, path: Path) -> None:
        """Give a network these weights.

        Raises:
            RequestError: they do not fit.
        """
        try:
            model.load_state_dict(self.state["model"])
        except (RuntimeError, TypeError, AttributeError) as error:
            raise RequestError(f"{path}: does not fit the config's network: {str(error).splitlines()[0]}") from error


def read_weights(path: Path) -> Weights:
    """Read a checkpoint; no code in it runs.

    Raises:
        RequestError: the checkpoint is missing or damaged.
    """
    state = checkpoint.load(path, torch.device("cpu"))
    names, mean, std = (state.get(key) for key in ("class_names", "mean", "std"))
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise RequestError(f"{path}: holds no class names")
    numbers = [*mean, *std] if isinstance(mean, list) and isinstance(std, list) else []
    finite = all(isinstance(value, float) and math.isfinite(value) for value in numbers)
    if not (mean and std and finite and len(mean) == len(std) in (1, 3) and min(std) > 0):
        raise RequestError(f"{path}: the statistics of its training images are missing or damaged")
    return Weights(state, tuple(names), Statistics(tuple(mean), tuple(std)))
