"""Checkpoints: tensors and plain values only, so that they load with ``weights_only=True``."""

import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from cifar_exp.errors import RequestError
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.untrusted import open_regular

_MOST_MEMBERS = 20_000  # one for each tensor
_MOST_INSTRUCTIONS = 2_000_000  # of a pickle; ResNet-18 with its optimizer's state has 7,000
# The names in a pickle of tensors and ordered dictionaries: functions, storages and element types.
_CALLABLES = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(?:tensor_v[23]|parameter)|torch _?[A-Za-z0-9]+Storage"
    r"|torch\.storage UntypedStorage|torch u?(int|float|bfloat|complex)[0-9][a-z0-9_]*|torch bool"
)


def save(path: Path, model: nn.Module, **state: Any) -> None:
    """Write a checkpoint atomically.

    ``model`` must be the uncompiled module, whose keys have no prefix; ``state`` holds tensors and plain values.
    """
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), **state}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, buffer.getvalue())


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a run's checkpoint; see ``load_values``.

    Raises:
        RequestError: it does not exist, or holds more than tensors and plain values, or no weights.
    """
    state = load_values(path, device)
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise RequestError(f"{path}: holds no model weights")
    return state


def load_values(path: Path, device: torch.device) -> Any:
    """Read what ``torch.save`` wrote. No code in it runs, and it takes at most a few times the file's size in memory.

    Raises:
        RequestError: it does not exist, or holds more than tensors and plain values.
    """
    try:
        with open_regular(path) as file:
            state = torch.load(_copy_checked(file), map_location=device, weights_only=True)
        _check_values(state)
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such checkpoint") from error
    except Exception as error:  # torch.load's errors have no common base, and some advise to disable its protection
        raise RequestError(f"{path}: not a checkpoint of tensors and plain values") from error
    return state


def _copy_checked(file: BinaryIO) -> io.BytesIO:
    """Copy the archive's checked members into memory; PyTorch reads only the copy.

    Python and PyTorch read zip archives differently: a file with two directories is two archives. Refused are
    compressed, overlapping or ambiguous members, which PyTorch never writes, and pickles with other calls than those
    that rebuild tensors.
    """
    copy = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(copy, "w") as rewritten:
        members = archive.infolist()
        if len(members) > _MOST_MEMBERS:
            raise ValueError(f"it has {len(members):,} members")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("a member is compressed")
        if sum(member.file_size for member in members) > file.seek(0, io.SEEK_END):
            raise ValueError("unpacks to more than it holds")
        # PyTorch ignores case when it looks up names.
        if len({member.filename.casefold() for member in members}) < len(members):
            raise ValueError("two members have the same name")
        for member in members:
            content = archive.read(member)
            if member.filename.casefold().endswith("data.pkl"):
                _check_pickle(content)
            rewritten.writestr(member.filename, content)
    copy.seek(0)
    return copy


def _check_pickle(content: bytes) -> None:
    """Raise a ValueError for callables that PyTorch's safe loader allows: ``bytearray(10**10)`` takes 10 GB."""
    for number, (instruction, argument, _) in enumerate(pickletools.genops(content)):
        if number > _MOST_INSTRUCTIONS:
            raise ValueError("its pickle is longer than a checkpoint's")
        if instruction.name == "STACK_GLOBAL" or (
            instruction.name == "GLOBAL" and not _CALLABLES.fullmatch(str(argument))
        ):
            raise ValueError(f"calls {argument}")


def _check_values(state: object) -> None:
    """Raise a ValueError for tensors with more elements than the file has bytes for, and for values not plain."""
    pending, seen = [state], set()
    while pending:
        value = pending.pop()
        if isinstance(value, dict | list | tuple):
            if id(value) not in seen:  # nested lists of the same list have exponentially many paths
                seen.add(id(value))
                pending += [*value.keys(), *value.values()] if isinstance(value, dict) else value
        elif isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or value.nbytes > value.untyped_storage().nbytes():
                raise ValueError(f"a tensor of {tuple(value.shape)} is larger than its storage")
        elif not isinstance(value, str | bytes | int | float | bool | None):
            raise ValueError(f"holds a {type(value).__name__}")
