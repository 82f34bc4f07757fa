"""Checkpoints: tensors and plain values only, so that they load with ``weights_only=True``."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cifar_exp import records
from cifar_exp.errors import RequestError


def save(path: Path, model: nn.Module, **state: Any) -> None:
    """Write a checkpoint atomically.

    Args:
        path: where.
        model: its weights are stored under ``model``; pass the uncompiled module, whose keys have no prefix.
        state: what else is needed, as tensors and plain values.
    """
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), **state}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    records.write_bytes(path, buffer.getvalue())


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint; code in it is never run.

    Raises:
        RequestError: there is none, or it is not a checkpoint of tensors and plain values.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise RequestError(f"{path}: there is no such checkpoint") from error
    except Exception as error:  # torch.load's errors have no base, and some advise to switch its protection off
        raise RequestError(f"{path}: not a checkpoint of tensors and plain values") from error
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise RequestError(f"{path}: holds no model weights")
    return state
