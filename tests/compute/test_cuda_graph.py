"""When passes are captured. That captured passes compute the same is a test for a GPU: ``test_cuda.py``."""

from contextlib import nullcontext

import pytest
import torch
from composing import composed
from torch import nn

from cifar_exp.build import _prepare_forward
from cifar_exp.compute import cuda_graph
from cifar_exp.compute.cuda_graph import GraphedNetwork
from cifar_exp.compute.device import Compute
from cifar_exp.models.construct import make_network


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setattr(cuda_graph, "generators_kept", lambda _device: nullcontext())  # there is no GPU's to keep
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(3))


def captured_shapes(monkeypatch, network, sizes, error=None):
    shapes = []

    def capture(container, sample, **_options):
        shapes.append(tuple(sample[0].shape))
        container(*sample)  # a warm-up, which changes running statistics
        if error:
            raise RuntimeError(error)
        return container

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    graphed = GraphedNetwork(network, Compute(torch.device("cpu"), torch.float32, torch.contiguous_format))
    for size in sizes:
        graphed(torch.ones(size, 1, 5, 5))
    return shapes


def test_the_second_of_two_batches_of_a_size_is_captured(monkeypatch, network):
    assert captured_shapes(monkeypatch, network, [8, 8, 8, 3, 8, 3, 8, 8]) == [(8, 1, 5, 5)]
    assert network[1].num_batches_tracked == 8  # the warm-up does not count


def test_training_continues_if_a_capture_fails(monkeypatch, network, caplog):
    assert len(captured_shapes(monkeypatch, network, [8, 8, 8], error="operation not permitted\nmore")) == 1
    assert network[1].num_batches_tracked == 3
    assert caplog.messages == ["No CUDA graph, so training is slower: operation not permitted"]


@pytest.mark.parametrize(
    ("overrides", "is_captured"),
    [
        *(([f"model={name}"], True) for name in ("resnet18", "resnet34", "resnet9", "speednet")),
        (["model=torchvision"], False),
        (["model=resnet9", "cuda_graph=false"], False),
        (["model=resnet9", "accumulate=2"], False),
    ],
)
def test_own_networks_are_captured_on_a_gpu(overrides, is_captured):
    config = composed("data=mnist5k", *overrides)
    network = make_network(config.model, num_classes=10, in_channels=1)
    for device, expected in (("cuda", is_captured), ("cpu", False)):
        compute = Compute(torch.device(device), torch.float32, torch.contiguous_format)
        assert isinstance(_prepare_forward(config, network, compute), GraphedNetwork) == expected
