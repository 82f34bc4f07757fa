"""Builds the optimizer of the config's ``optimizer`` node, with its parameter groups."""

from typing import Any

import torch
from torch import nn

from cifar_exp.config.groups.optimizer import MuonConfig, OptimizerConfig
from cifar_exp.config.targets import call

# Keys of an optimizer node about groups of parameters, which are not arguments of the optimizer.
# fmt: off
_GROUP_KEYS = (
    "weight_decay", "decay_norms_and_biases", "bias_lr_factor", "head_lr_factor", "sgd_momentum", "clip_grad_norm"
)
# fmt: on


def build_optimizer(
    node: OptimizerConfig | MuonConfig, model: nn.Module, max_lr: float, precision: torch.dtype = torch.float32
) -> torch.optim.Optimizer:
    """Build the optimizer. Norms and biases have no weight decay unless the node sets it.

    ``learning_rate`` in the CSVs is that of the first group. The schedule scales all groups by the same factor.
    ``precision`` is for an optimizer whose updates are matrix products.
    """
    extra: dict[str, Any] = {}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if isinstance(node, MuonConfig):
        groups, extra = _make_muon_groups(node, parameters, max_lr), {"iteration_dtype": precision}
    else:
        groups = _make_groups(node, parameters, max_lr)
    optimizer = call(node, groups, without=_GROUP_KEYS, lr=max_lr, **extra)
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def _make_groups(node: OptimizerConfig, parameters: list[nn.Parameter], lr: float) -> list[dict[str, Any]]:
    """Make one group, or a second one for norms and biases if they have another weight decay or learning rate."""
    decay, factor = node.weight_decay, node.bias_lr_factor
    if node.decay_norms_and_biases and factor == 1:
        return [{"params": parameters, "weight_decay": decay}]
    vectors_decay = decay / factor if node.decay_norms_and_biases else 0.0  # the product of rate and decay stays
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": vectors_decay, "lr": lr * factor},
    ]


def _make_muon_groups(node: MuonConfig, parameters: list[nn.Parameter], lr: float) -> list[dict[str, Any]]:
    """Train filters by Muon; heads, norms and biases by SGD. A step at ``max_lr`` has the node's weight decay."""
    groups: list[dict[str, Any]] = [{"params": [p for p in parameters if p.ndim > 2], "orthogonal": True}]
    heads, vectors = [p for p in parameters if p.ndim == 2], [p for p in parameters if p.ndim < 2]
    for rest, rate in ((heads, lr * node.head_lr_factor), (vectors, lr * node.bias_lr_factor)):
        decay = node.weight_decay / rate
        groups.append({"params": rest, "lr": rate, "weight_decay": decay, "momentum": node.sgd_momentum})
    return groups


def read_momentum(optimizer: torch.optim.Optimizer) -> float | None:
    """Return the current momentum: SGD's, or Adam's first beta; None if the optimizer has neither."""
    group = optimizer.param_groups[0]
    if "momentum" in group:
        return float(group["momentum"])
    return float(group["betas"][0]) if "betas" in group else None


def set_max_lr(
    optimizer: torch.optim.Optimizer, node: OptimizerConfig | MuonConfig, model: nn.Module, max_lr: float
) -> None:
    """Set the learning rate and weight decay of all groups as ``build_optimizer`` does for another ``max_lr``."""
    for group, other in zip(optimizer.param_groups, build_optimizer(node, model, max_lr).param_groups, strict=True):
        group["lr"], group["weight_decay"] = other["lr"], other["weight_decay"]


def set_momentum(optimizer: torch.optim.Optimizer, momentum: float) -> None:
    """Set the momentum (see ``read_momentum``) of all groups, as PyTorch's ``OneCycleLR`` does."""
    for group in optimizer.param_groups:
        if "momentum" in group:
            group["momentum"] = momentum
        elif "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
