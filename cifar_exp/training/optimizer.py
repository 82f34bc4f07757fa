"""Builds the optimizer of the config's ``optimizer`` node, with its parameter groups."""

from typing import Any

import torch
from torch import nn

from cifar_exp.config.groups.optimizer import MuonConfig, OptimizerConfig
from cifar_exp.config.targets import call
from cifar_exp.errors import RequestError

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
        groups, extra = _muon_groups(node, parameters, max_lr), {"iteration_dtype": precision}
    else:
        groups = _groups(node, parameters, max_lr)
    try:
        optimizer = call(node, groups, without=_GROUP_KEYS, lr=max_lr, **extra)
    except RequestError:
        raise
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise RequestError(f"optimizer: {node._target_} does not accept these values: {error}") from error
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def _groups(node: OptimizerConfig, parameters: list[nn.Parameter], lr: float) -> list[dict[str, Any]]:
    """One group, or a second one for norms and biases if they have another weight decay or learning rate."""
    decay, decay_vectors, factor = node.weight_decay, node.decay_norms_and_biases, node.bias_lr_factor
    if decay_vectors and factor == 1:
        return [{"params": parameters, "weight_decay": decay}]
    matrices, vectors = _by_dimensions(parameters)
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": decay},
        {"params": vectors, "weight_decay": decay if decay_vectors else 0.0},
    ]
    if factor != 1:  # the product of rate and decay stays
        groups[1] |= {"lr": lr * factor, "weight_decay": groups[1]["weight_decay"] / factor}
    return groups


def _muon_groups(node: MuonConfig, parameters: list[nn.Parameter], lr: float) -> list[dict[str, Any]]:
    """Filters by Muon; heads, norms and biases by SGD. A step at ``max_lr`` has the node's weight decay."""
    matrices, vectors = _by_dimensions(parameters)
    filters = [parameter for parameter in matrices if parameter.ndim > 2]
    heads = [parameter for parameter in matrices if parameter.ndim == 2]
    groups: list[dict[str, Any]] = [{"params": filters, "orthogonal": True}]
    for rest, factor in ((heads, node.head_lr_factor), (vectors, node.bias_lr_factor)):
        rate = lr * factor
        decay = node.weight_decay / rate
        groups.append({"params": rest, "lr": rate, "weight_decay": decay, "momentum": node.sgd_momentum})
    return groups


def _by_dimensions(parameters: list[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Filters and matrices (two dimensions or more), and vectors: gains of norms, and biases."""
    return [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]


def momentum_of(optimizer: torch.optim.Optimizer) -> float | None:
    """Current momentum: SGD's, or Adam's first beta; None if the optimizer has neither."""
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
    """Set the momentum (see ``momentum_of``) of all groups, as PyTorch's ``OneCycleLR`` does."""
    for group in optimizer.param_groups:
        if "momentum" in group:
            group["momentum"] = momentum
        elif "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
