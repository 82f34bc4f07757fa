"""How a batch is computed: device, precision, memory layout, and the way of uint8 images into the network."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from cifar_exp.compute.distributed.ranks import current_ranks
from cifar_exp.errors import RequestError


@dataclass(frozen=True)
class Compute:
    """The choices that ``auto`` leaves to the machine, made."""

    device: torch.device
    precision: torch.dtype
    memory_format: torch.memory_format

    @classmethod
    def choose(cls, device: str, precision: str, memory_format: str) -> "Compute":
        """Make the choices from the config's values.

        Raises:
            RequestError: the device is not on this machine.
        """
        chosen = current_ranks().device(resolve_device(device))
        dtype = resolve_precision(precision, chosen)
        return cls(chosen, dtype, resolve_memory_format(memory_format, chosen, dtype))

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision for a forward pass: convolutions in bfloat16, weights and losses in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision is torch.bfloat16)

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        """Move a network to the device, in the memory layout."""
        return module.to(self.device).to(memory_format=self.memory_format)


def compiled(model: torch.nn.Module, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network's compiled form; compiling itself happens at the first batch.

    Raises:
        RequestError: the device is the CPU, for which PyTorch writes C++, and there is no compiler, or Python's
            header files are not there.
    """
    # Where PyTorch looks: the environment's CXX, then the system's usual name.
    name = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    if device.type == "cpu" and shutil.which(name) is None:
        raise RequestError(
            f"compile=true: needs a C++ compiler on a CPU, and there is no {name!r} here; install one, name one by "
            "CXX=..., or leave compile=false"
        )
    headers = sysconfig.get_path("include")
    if device.type == "cpu" and not os.path.exists(os.path.join(headers, "Python.h")):
        raise RequestError(
            f"compile=true: needs Python's own header files on a CPU, and {headers} has no Python.h; install them "
            "(Debian and Ubuntu: python3-dev), or leave compile=false"
        )
    return torch.compile(model)


def resolve_device(name: str) -> torch.device:
    """The device to run on. ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        RequestError: the named device is not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise RequestError(
                f"device={name}: this machine has {count} CUDA device{'' if count == 1 else 's'} "
                "that PyTorch can use; device=auto takes the best one there is"
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise RequestError("device=mps: not available on this machine; device=auto takes the best one there is")
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16 itself, rather than emulating it (slower than float32)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(_cpu_flags() & {"amx_bf16", "avx512_bf16", "bf16"})  # the last is ARM's name
    return False


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The type that convolutions compute in. ``auto`` takes bfloat16 where the hardware has it."""
    if name == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def resolve_memory_format(name: str, device: torch.device, precision: torch.dtype) -> torch.memory_format:
    """The layout of images and filters. ``auto`` takes the faster one, by measurement (see below)."""
    if name == "auto":
        # ResNet-18 in float32: channels_last is 1.1x to 1.2x as fast on AVX-512 CPUs without AMX (Intel's without
        # bfloat16, AMD's with it), and slower than contiguous on one with AMX.
        amx = device.type == "cpu" and precision is torch.float32 and "amx_bf16" in _cpu_flags()
        return torch.contiguous_format if amx or device.type == "mps" else torch.channels_last
    return {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[name]


def cpuinfo(field: str) -> str | None:
    """The first value of a field of Linux's ``/proc/cpuinfo``."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), None)


def _cpu_flags() -> set[str]:
    return set((cpuinfo("flags") or cpuinfo("Features") or "").split())
