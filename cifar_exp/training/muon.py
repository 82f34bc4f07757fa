"""Muon: momentum with orthogonalized updates, for the filters of a network; SGD for the rest."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks" (kellerjordan.github.io/posts/muon).
# The polynomial's coefficients are from that text: steep at 0, so that a few iterations bring singular values near 1.
# Three iterations as in airbench94_muon, by the same author.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 3


class Muon(torch.optim.Optimizer):
    """Nesterov momentum; in groups with ``orthogonal=True`` the update is orthogonalized.

    Such a parameter, (out, ...), is treated as a matrix of ``out`` rows. It is scaled to the norm ``sqrt(out)`` before
    each update, so ``lr`` is a relative step size. Batch normalization makes the network independent of that scale.
    ``weight_decay``, as in SGD, has no effect on it. PyTorch's own ``Muon`` accepts matrices only, not filters.

    ``iteration_dtype`` is the type of the orthogonalization; None: that of the parameter. bfloat16 changes an update by
    about 2%, much less than the spread of singular values after three iterations. Momentum and weights keep theirs.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.6,
        weight_decay: float = 0.0,
        iteration_dtype: torch.dtype | None = None,
    ) -> None:
        self._iteration_dtype = iteration_dtype
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        update = gradient.add(buffer, alpha=group["momentum"])
        if group["orthogonal"]:
            rows = parameter.shape[0]
            parameter.mul_(math.sqrt(rows) / parameter.norm())
            matrix = update.reshape(rows, -1).to(self._iteration_dtype or update.dtype)
            update = orthogonalize(matrix).reshape(parameter.shape)
        parameter.add_(update, alpha=-group["lr"])


def orthogonalize(matrix: Tensor) -> Tensor:
    """Approximate the nearest semi-orthogonal matrix: (rows, columns) with all singular values near 1.

    A Newton-Schulz iteration of a quintic polynomial: matrix products only, no decomposition.
    """
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / (wide.norm() + 1e-7)  # singular values of at most 1, for which the iteration converges
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide
