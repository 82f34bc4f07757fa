"""Weights pulled towards a running average of themselves (Lookahead, Zhang et al. 2019, arXiv 1907.08610)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class Lookahead:
    """Every few steps, mixes the weights into a slow copy and goes on from that copy.

    The slow copy is a running average: ``slow = d * slow + (1 - d) * weights``, with ``d`` rising from 0 to ``decay``
    as ``(step / total_steps) ** power``, as in airbench94 (arXiv 2404.00498). Running statistics of norms
    are averaged, too. After the last step the weights are the slow copy.

    Args:
        model: the network whose weights are averaged, in place.
        every_steps: steps between two averages.
        decay: of the average at the end of the training, in [0, 1].
        power: with which the decay rises.
        total_steps: of the training.
    """

    def __init__(self, model: nn.Module, *, every_steps: int, decay: float, power: float, total_steps: int) -> None:
        self._every_steps = every_steps
        self._decay = decay
        self._power = power
        self._total_steps = total_steps
        # Every floating-point value but what is frozen now; a network may freeze more of itself later.
        frozen = {id(parameter) for parameter in model.parameters() if not parameter.requires_grad}
        values = [*model.parameters(), *model.buffers()]
        self._values = [value for value in values if value.is_floating_point() and id(value) not in frozen]
        self._slow = [value.detach().clone() for value in self._values]

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Average, if it is time after ``step`` optimizer steps (counted from 1)."""
        if step % self._every_steps == 0:
            decay = self._decay * (step / self._total_steps) ** self._power
            for slow, value in zip(self._slow, self._values, strict=True):
                slow.lerp_(value, 1 - decay)
                value.copy_(slow)
        elif step == self._total_steps:  # the steps since the last average are given up
            for slow, value in zip(self._slow, self._values, strict=True):
                value.copy_(slow)

    def state_dict(self) -> dict[str, Any]:
        """The slow copy."""
        return {"slow": self._slow}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Back from ``state_dict``."""
        for slow, saved in zip(self._slow, state["slow"], strict=True):
            slow.copy_(saved)
