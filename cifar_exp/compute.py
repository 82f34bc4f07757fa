"""How a batch is computed: device, precision, memory layout, and the way of uint8 images into the network."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from cifar_exp import parallel
from cifar_exp.data.split import Statistics
from cifar_exp.errors import RequestError
from cifar_exp.provenance import resolve_device, resolve_memory_format, resolve_precision


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
        chosen = parallel.own_device(resolve_device(device))
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


class Normalizer:
    """uint8 images to the network's input: ``(pixel / 255 - mean) / std`` by channel, on the compute device."""

    def __init__(self, statistics: Statistics, compute: Compute) -> None:
        self._compute = compute
        # Folded into one subtraction and one product over the batch.
        self._mean = torch.tensor(statistics.colour, dtype=torch.float32, device=compute.device).view(1, -1, 1, 1)
        scale = [1 / (255 * std) for std in statistics.std]
        self._scale = torch.tensor(scale, dtype=torch.float32, device=compute.device).view(1, -1, 1, 1)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalize (N, H, W, C) uint8 images; returns (N, C, H, W) float32."""
        images = images.to(self._compute.device, non_blocking=True).permute(0, 3, 1, 2)  # (N, C, H, W)
        images = images.to(torch.float32, memory_format=self._compute.memory_format)
        return images.sub_(self._mean).mul_(self._scale)
