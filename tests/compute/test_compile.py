"""The compiled network against the one it was compiled from, and what happens without a compiler."""

import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
from composing import TINY, composed
from torch import nn

from cifar_exp.build import build
from cifar_exp.compute import device
from cifar_exp.compute.device import compile_network
from cifar_exp.errors import RequestError


def test_without_a_compiler_the_request_is_refused_before_training(monkeypatch):
    # Not by CXX: PyTorch reads it once, so the other test would be left without a compiler, too.
    monkeypatch.setattr(device.shutil, "which", lambda _name: None)
    with pytest.raises(RequestError, match=r"compile=true: needs a C\+\+ compiler on a CPU.* set compile=false"):
        build(composed(*TINY, "compile=true", "device=cpu"))


def test_without_pythons_headers_the_request_is_refused_before_training(monkeypatch, tmp_path):
    monkeypatch.setattr(device.sysconfig, "get_path", lambda _name: str(tmp_path))
    monkeypatch.setattr(device.shutil, "which", lambda name: name)
    with pytest.raises(RequestError, match=r"compile=true: needs Python's header files.* has no Python\.h"):
        build(composed(*TINY, "compile=true", "device=cpu"))


@pytest.mark.skipif(
    shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="compiles C++, and there is no g++ or no Python.h (Debian: apt-get install g++ python3-dev)",
)
@pytest.mark.filterwarnings("ignore")  # of PyTorch's own modules, which it imports to compile
def test_a_step_of_the_compiled_network_agrees_with_the_plain_one():
    def after_a_step(compile_it: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        forward = compile_network(model, torch.device("cpu")) if compile_it else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        nn.functional.cross_entropy(forward(images), torch.arange(16) % 3).backward()
        optimizer.step()
        return [parameter.detach() for parameter in model.parameters()]

    for plain, other in zip(after_a_step(False), after_a_step(True), strict=True):
        torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-5)
