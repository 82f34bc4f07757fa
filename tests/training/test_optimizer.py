"""Which parameters decay, and what a step does."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cifar_exp.config.groups.optimizer import MuonConfig, SGDConfig
from cifar_exp.config.parse import OwnNode
from cifar_exp.errors import RequestError
from cifar_exp.training.optimizer import build_optimizer, read_momentum, set_max_lr

SGD = SGDConfig(name="sgd", momentum=0.0, weight_decay=0.1)


MUON = MuonConfig(
    name="muon", momentum=0.6, weight_decay=0.004, sgd_momentum=0.85, head_lr_factor=10.0, bias_lr_factor=100.0
)


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_norms_and_biases_do_not_decay():
    network = model()
    optimizer = build_optimizer(SGD, network, max_lr=1.0)
    before = {name: value.clone() for name, value in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in network.named_parameters():
        is_matrix = name in ("0.weight", "3.weight")
        torch.testing.assert_close(value, before[name] * (0.9 if is_matrix else 1.0))


def test_everything_decays_on_request():
    optimizer = build_optimizer(replace(SGD, decay_norms_and_biases=True), model(), max_lr=1.0)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1]
    assert len(optimizer.param_groups[0]["params"]) == 6


def test_momentum_of_the_kinds_of_optimizers():
    parameters = [torch.zeros(1, requires_grad=True)]
    assert read_momentum(torch.optim.SGD(parameters, lr=1, momentum=0.7)) == 0.7
    assert read_momentum(torch.optim.AdamW(parameters, lr=1, betas=(0.8, 0.9))) == 0.8
    assert read_momentum(torch.optim.Adagrad(parameters, lr=1)) is None


def test_an_argument_that_the_optimizer_does_not_take_is_named():
    with pytest.raises(RequestError, match=r"torch\.optim\.SGD.*'speed'"):
        build_optimizer(OwnNode("optimizer", {"_target_": "torch.optim.SGD", "speed": 3}), model(), max_lr=1.0)


def rates_and_decays(optimizer: torch.optim.Optimizer) -> list[float]:
    """Learning rate and weight decay of one group after the other."""
    return [group[key] for group in optimizer.param_groups for key in ("lr", "weight_decay")]


def test_biases_learn_faster_and_decay_as_much():
    node = replace(SGD, decay_norms_and_biases=True, bias_lr_factor=64.0)
    optimizer = build_optimizer(node, model(), max_lr=0.5)
    assert rates_and_decays(optimizer) == pytest.approx([0.5, 0.1, 32.0, 0.1 / 64])
    assert [value.ndim for value in optimizer.param_groups[1]["params"]] == [1] * 4
    without_decay = build_optimizer(replace(node, decay_norms_and_biases=False), model(), max_lr=0.5)
    assert rates_and_decays(without_decay) == pytest.approx([0.5, 0.1, 32.0, 0.0])


def test_muons_groups():
    network = model()
    network[0].bias.requires_grad_(False)
    optimizer = build_optimizer(MUON, network, max_lr=0.2)
    filters, heads, vectors = optimizer.param_groups
    assert [group["orthogonal"] for group in optimizer.param_groups] == [True, False, False]
    assert [group["momentum"] for group in optimizer.param_groups] == [0.6, 0.85, 0.85]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 2.0, 20.0])
    assert [group["lr"] * group["weight_decay"] for group in (heads, vectors)] == pytest.approx([0.004, 0.004])
    assert filters["weight_decay"] == 0
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1, 3]


def test_a_frozen_parameter_is_left_out():
    network = model()
    network[0].weight.requires_grad_(False)
    optimizer = build_optimizer(SGD, network, max_lr=1.0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 5


@pytest.mark.parametrize("node", [SGD, replace(SGD, momentum=0.9, bias_lr_factor=64.0), MUON])
def test_another_max_lr_is_as_if_built_with_it(node):
    network = model()
    optimizer = build_optimizer(node, network, max_lr=1e-4)
    set_max_lr(optimizer, node, network, 0.3)
    assert rates_and_decays(optimizer) == rates_and_decays(build_optimizer(node, network, max_lr=0.3))
