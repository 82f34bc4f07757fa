"""Training passes of a network as CUDA graphs: sequences of kernels that the GPU starts without waiting for Python."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import torch
from torch import Tensor, nn

from cifar_exp.compute.device import Compute
from cifar_exp.compute.seeding import generators_kept

log = logging.getLogger(__name__)

Pass = Callable[[Tensor], Tensor]


class GraphedNetwork:
    """A network in training mode, whose forward and backward passes are captured once and then replayed.

    Gradients must not be accumulated over several passes: each backward pass overwrites those of the one before. Python
    code in ``forward`` runs during the capture only.

    Takes (N, C, H, W) float32 and returns logits, (N, classes).
    """

    def __init__(self, model: nn.Module, compute: Compute) -> None:
        self._model = model
        self._compute = compute
        self._parameters = list(model.parameters())
        self._passes: dict[object, Pass] = {}
        self._previous: object = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """The forward pass. It is captured once two consecutive batches have the same shape."""
        kind = inputs.shape, tuple(parameter.requires_grad for parameter in self._parameters)
        if kind == self._previous and kind not in self._passes:
            self._passes[kind] = self._captured(inputs)
        self._previous = kind
        return self._passes.get(kind, self._model)(inputs)

    def _captured(self, inputs: Tensor) -> Pass:
        """Forward and backward pass for inputs of this shape; changes no state."""
        with suppress(AttributeError):  # PyTorch 2.10; the streams differ by design, and PyTorch synchronizes them
            torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        buffers = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        # PyTorch replaces the `forward` of the module that it gets; so the network keeps its own.
        container = nn.Sequential(self._model).train()
        try:
            with generators_kept(self._compute.device), self._compute.autocast(cache_enabled=False):
                sample = (inputs.detach().clone(),)
                graphed = cast(Pass, torch.cuda.make_graphed_callables(container, sample, allow_unused_input=True))
        except RuntimeError as error:
            log.warning("No CUDA graph, so training is slower: %s", str(error).split("\n", 1)[0])
            graphed = self._model
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        return graphed
