"""Exponential moving average (EMA) of the weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """A second network with the moving average of the weights: ``average = d * average + (1 - d) * weights``.

    The first update copies the weights. After ``n`` updates ``d`` is ``min(decay, (1 + n) / (10 + n))``, so that the
    untrained weights are soon forgotten. Floating-point buffers (statistics of batch normalization) are averaged, too;
    other buffers are copied.
    """

    def __init__(self, model: nn.Module, decay: float, every_steps: int) -> None:
        self._decay = decay
        self._every_steps = every_steps
        self._updates = 0
        self._averaged = AveragedModel(model, multi_avg_fn=self._average, use_buffers=True)

    @property
    def model(self) -> nn.Module:
        """The network with the averaged weights."""
        return self._averaged.module

    def after_step(self, model: nn.Module, step: int) -> None:
        """Update the average, if it is time after ``step`` optimizer steps."""
        if step % self._every_steps == 0:
            self._averaged.update_parameters(model)
            self._updates += 1

    @torch.no_grad()
    def _average(self, averages: Sequence[Tensor], values: Sequence[Tensor], _updates: Any) -> None:
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        if averages[0].is_floating_point():
            get_ema_multi_avg_fn(decay)(averages, values, 0)
            return
        for average, value in zip(averages, values, strict=True):
            average.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the state without the averaged weights."""
        return {"updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Restore ``state_dict`` and the averaged weights."""
        self._updates = state["updates"]
        self._averaged.n_averaged.fill_(self._updates)
        self.model.load_state_dict(weights)
