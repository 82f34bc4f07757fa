"""The optimizer of an ``optimizer`` node."""

from typing import Any

import torch
from torch import nn

from cifar_exp.errors import RequestError
from cifar_exp.targets import call


def build_optimizer(node: dict[str, Any], model: nn.Module, max_lr: float) -> torch.optim.Optimizer:
    """Build the optimizer, with weight decay kept from norms and biases unless the node says otherwise.

    Args:
        node: the resolved ``optimizer`` node.
        model: whose parameters to optimize.
        max_lr: learning rate to start from; the schedule sets it anew.
    """
    decay = node.get("weight_decay", 0.0)
    if node.get("decay_norms_and_biases", True):
        groups = [{"params": list(model.parameters()), "weight_decay": decay}]
    else:
        # Norms' gains and all biases are vectors; what multiplies activations has two dimensions or more.
        matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
        vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    try:
        optimizer = call(node, groups, without=("weight_decay", "decay_norms_and_biases"), lr=max_lr)
    except RequestError:
        raise
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise RequestError(f"optimizer: {node['_target_']} refuses these values: {error}") from error
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def momentum_of(optimizer: torch.optim.Optimizer) -> float | None:
    """Present momentum: SGD's, or Adam's first beta; None where the optimizer has neither."""
    group = optimizer.param_groups[0]
    if "momentum" in group:
        return float(group["momentum"])
    return float(group["betas"][0]) if "betas" in group else None
