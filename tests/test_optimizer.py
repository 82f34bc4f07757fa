"""Which parameters decay, and what a step does."""

import pytest
import torch
from torch import nn

from cifar_exp.errors import RequestError
from cifar_exp.optimizer import build_optimizer, momentum_of

SGD = {"_target_": "torch.optim.SGD", "name": "sgd", "weight_decay": 0.1, "decay_norms_and_biases": False}


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
    optimizer = build_optimizer(SGD | {"decay_norms_and_biases": True}, model(), max_lr=1.0)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1]
    assert len(optimizer.param_groups[0]["params"]) == 6


def test_momentum_of_the_kinds_of_optimizers():
    parameters = [torch.zeros(1, requires_grad=True)]
    assert momentum_of(torch.optim.SGD(parameters, lr=1, momentum=0.7)) == 0.7
    assert momentum_of(torch.optim.AdamW(parameters, lr=1, betas=(0.8, 0.9))) == 0.8
    assert momentum_of(torch.optim.Adagrad(parameters, lr=1)) is None


def test_an_argument_that_the_optimizer_does_not_take_is_named():
    with pytest.raises(RequestError, match=r"torch\.optim\.SGD.*'speed'"):
        build_optimizer(SGD | {"speed": 3}, model(), max_lr=1.0)
