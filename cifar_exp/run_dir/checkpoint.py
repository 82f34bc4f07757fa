"""Checkpoints: tensors and plain values only, so that they load with ``weights_only=True``."""

import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from cifar_exp.errors import RequestError
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.untrusted import open_regular


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
    atomic.write_bytes(path, buffer.getvalue())


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint; code in it is never run, and it takes no more memory than the file is long.

    Raises:
        RequestError: there is none, or it is not a checkpoint of tensors and plain values.
    """
    try:
        with open_regular(path) as file:
            _check_archive(file)
            state = torch.load(file, map_location=device, weights_only=True)
        _check_values(state)
    except FileNotFoundError as error:
        raise RequestError(f"{path}: there is no such checkpoint") from error
    except Exception as error:  # torch.load's errors have no base, and some advise to switch its protection off
        raise RequestError(f"{path}: not a checkpoint of tensors and plain values") from error
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise RequestError(f"{path}: holds no model weights")
    return state


def _check_archive(file: BinaryIO) -> None:
    """Refuse what PyTorch never writes: compressed or overlapping members, and the format before 1.6.

    Raises:
        ValueError: it is such a file.
        zipfile.BadZipFile: it is no archive.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if compressed or sum(member.file_size for member in members) > length:
        raise ValueError("unpacks to more than it holds")


def _check_values(state: object) -> None:
    """Refuse tensors that claim more elements than the file has bytes for, and values that are not plain.

    Raises:
        ValueError: there is such a value.
    """
    waiting, seen = [state], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list | tuple):
            if id(value) not in seen:  # lists of lists of the same lists have more ends than there are atoms
                seen.add(id(value))
                waiting += [*value.keys(), *value.values()] if isinstance(value, dict) else value
        elif isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or value.nbytes > value.untyped_storage().nbytes():
                raise ValueError(f"a tensor of {tuple(value.shape)} is larger than what is stored of it")
        elif not isinstance(value, str | bytes | int | float | bool | None):
            raise ValueError(f"holds a {type(value).__name__}")
