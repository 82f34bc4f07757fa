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
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v[23]|torch _?[A-Za-z0-9]+Storage"
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
    """Read a checkpoint. No code in it runs, and it takes at most a few times the file's size in memory.

    Raises:
        RequestError: it does not exist, or holds more than tensors and plain values.
    """
    try:
        with open_regular(path) as file:
            state = torch.load(_rewritten(file), map_location=device, weights_only=True)
        _check_values(state)
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such checkpoint") from error
    except Exception as error:  # torch.load's errors have no common base, and some advise to disable its protection
        raise RequestError(f"{path}: not a checkpoint of tensors and plain values") from error
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise RequestError(f"{path}: holds no model weights")
    return state


def _rewritten(file: BinaryIO) -> io.BytesIO:
    """A copy of the archive in memory, made of its checked members.

    Python and PyTorch read zip archives differently: a file with two directories is two archives. PyTorch only reads
    the copy.

    Raises:
        ValueError: it has compressed, overlapping or ambiguous members, which PyTorch never writes, or a pickle with
            other calls than those that rebuild tensors.
        zipfile.BadZipFile: it is not an archive, or damaged.
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
    """Refuse callables that PyTorch's safe loader allows: ``bytearray(10**10)`` takes 10 GB.

    Raises:
        ValueError: the pickle has such a call, or is longer than a checkpoint's.
    """
    for number, (instruction, argument, _) in enumerate(pickletools.genops(content)):
        if number > _MOST_INSTRUCTIONS:
            raise ValueError("its pickle is longer than a checkpoint's")
        if instruction.name == "STACK_GLOBAL" or (
            instruction.name == "GLOBAL" and not _CALLABLES.fullmatch(str(argument))
        ):
            raise ValueError(f"calls {argument}")


def _check_values(state: object) -> None:
    """Refuse tensors with more elements than the file has bytes for, and values that are not plain.

    Raises:
        ValueError: names the value.
    """
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
