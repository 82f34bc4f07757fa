"""How a batch is computed: device, precision and memory layout."""

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
from cifar_exp.safe_io.plural import plural


@dataclass(frozen=True)
class Compute:
    """Device, precision and memory layout, with ``auto`` resolved."""

    device: torch.device
    precision: torch.dtype
    memory_format: torch.memory_format

    @classmethod
    def choose(cls, device: str, precision: str, memory_format: str) -> "Compute":
        """Resolve the config's values; see ``resolve_device`` for errors."""
        chosen = current_ranks().device(resolve_device(device))
        dtype = resolve_precision(precision, chosen)
        return cls(chosen, dtype, resolve_memory_format(memory_format, chosen, dtype))

    def autocast(self, *, cache_enabled: bool = True) -> AbstractContextManager[None]:
        """Mixed precision: convolutions and matrix products in bfloat16, weights and losses in float32.

        ``cache_enabled`` keeps the weights in bfloat16 until the context ends.
        """
        enabled = self.precision is torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=cache_enabled)

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        """Move a network to the device and into the memory format."""
        return module.to(self.device).to(memory_format=self.memory_format)


def compile_network(model: torch.nn.Module, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The compiled network; compilation happens at the first batch.

    Raises:
        RequestError: the device is the CPU, and the C++ compiler or Python's header files are missing.
    """
    # As PyTorch looks for it: the environment's CXX, then the system's usual name.
    compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    headers, missing = sysconfig.get_path("include"), None
    if shutil.which(compiler) is None:
        missing = f"a C++ compiler on a CPU, and {compiler!r} is not installed; install it, set CXX to another compiler"
    elif not os.path.exists(os.path.join(headers, "Python.h")):
        missing = (
            f"Python's header files on a CPU, and {headers} has no Python.h; install them (Debian, Ubuntu: python3-dev)"
        )
    if device.type == "cpu" and missing:
        raise RequestError(f"compile=true: needs {missing}, or set compile=false")
    return torch.compile(model)


def resolve_device(name: str) -> torch.device:
    """The device to run on. ``auto`` selects CUDA, else Apple's MPS, else the CPU.

    Raises:
        RequestError: the named device is not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    count = {"cuda": torch.cuda.device_count, "mps": torch.mps.device_count}.get(device.type, lambda: 1)()
    if (device.index or 0) >= count:
        raise RequestError(
            f"device={name}: PyTorch can use {plural(count, f'{device.type.upper()} device')} on this machine; "
            "device=auto selects the best device available"
        )
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The type in which convolutions and matrix products compute.

    ``auto`` selects bfloat16 if the hardware has it; emulated, it is slower than float32.
    """
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = device.type == "cpu" and not _cpu_flags().isdisjoint({"amx_bf16", "avx512_bf16", "bf16"})  # bf16: ARM
    return torch.bfloat16 if fast else torch.float32


def resolve_memory_format(name: str, device: torch.device, precision: torch.dtype) -> torch.memory_format:
    """The layout of images and filters. ``auto`` selects the one that was measured to be faster."""
    if name == "auto":
        # ResNet-18 in float32: channels_last is 1.1x to 1.2x as fast on AVX-512 CPUs without AMX, and slower on one
        # with AMX.
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
