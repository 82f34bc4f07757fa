"""The optimizer of an ``optimizer`` node."""

from typing import Any

import torch
from torch import nn

from cifar_exp.config.groups.optimizer import MuonConfig, OptimizerConfig
from cifar_exp.config.targets import call
from cifar_exp.errors import RequestError

# Keys of an optimizer node that say which parameter gets what, not how a step is taken.
_GROUP_KEYS = (
    "weight_decay",
    "decay_norms_and_biases",
    "bias_lr_factor",
    "head_lr_factor",
    "sgd_momentum",
    "decoupled",
)


def build_optimizer(
    node: OptimizerConfig | MuonConfig, model: nn.Module, max_lr: float, precision: torch.dtype = torch.float32
) -> torch.optim.Optimizer:
    """Build the optimizer, with weight decay kept from norms and biases unless the node says otherwise.

    The first group's learning rate is what ``learning_rate`` stands for in the CSVs; the schedule moves all groups by
    the same factor.

    Args:
        node: the resolved ``optimizer`` node.
        model: whose parameters to optimize; frozen ones are left out.
        max_lr: learning rate to start from; the schedule sets it anew.
        precision: what the run computes in; for an optimizer whose steps are matrix products themselves.
    """
    lr, extra = max_lr, {}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if isinstance(node, MuonConfig):
        groups, extra = _muon_groups(node, parameters, lr), {"iteration_dtype": precision}
    else:
        decay = node.weight_decay
        if getattr(node, "decoupled", False):
            lr, decay = max_lr / _reach(node.momentum), decay / max_lr  # type: ignore[attr-defined]
        groups = _groups(node, parameters, lr, decay)
    try:
        optimizer = call(node, groups, without=_GROUP_KEYS, lr=lr, **extra)
    except RequestError:
        raise
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise RequestError(f"optimizer: {node._target_} refuses these values: {error}") from error
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def _groups(node: OptimizerConfig, parameters: list[nn.Parameter], lr: float, decay: float) -> list[dict[str, Any]]:
    """Norms and biases apart where they are treated apart."""
    decay_vectors, factor = node.decay_norms_and_biases, node.bias_lr_factor
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
    """Filters by Muon; heads, norms and biases by SGD. The weight decay of a step at ``max_lr`` is the node's."""
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
    """What multiplies activations has two dimensions or more; norms' gains and all biases are vectors."""
    return [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]


def _reach(momentum: float) -> float:
    """How far Nesterov momentum carries a gradient in all, relative to plain descent (arXiv 2404.00498)."""
    return 1 + 1 / (1 - momentum)


def momentum_of(optimizer: torch.optim.Optimizer) -> float | None:
    """Present momentum: SGD's, or Adam's first beta; None where the optimizer has neither."""
    group = optimizer.param_groups[0]
    if "momentum" in group:
        return float(group["momentum"])
    return float(group["betas"][0]) if "betas" in group else None


def set_max_lr(
    optimizer: torch.optim.Optimizer, node: OptimizerConfig | MuonConfig, model: nn.Module, max_lr: float
) -> None:
    """Give all groups the learning rate and the weight decay that ``build_optimizer`` would for another ``max_lr``."""
    for group, other in zip(optimizer.param_groups, build_optimizer(node, model, max_lr).param_groups, strict=True):
        group["lr"], group["weight_decay"] = other["lr"], other["weight_decay"]


def set_momentum(optimizer: torch.optim.Optimizer, momentum: float) -> None:
    """Set what ``momentum_of`` reads, in all groups; as PyTorch's ``OneCycleLR`` does when it cycles momentum."""
    for group in optimizer.param_groups:
        if "momentum" in group:
            group["momentum"] = momentum
        elif "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
