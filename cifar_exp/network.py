"""Builds the network, completes it, and tries a copy before training.

The trial refuses networks that cannot be trained or explained. It changes neither the network nor any generator.
"""

import copy
import inspect
import logging
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.parameter import is_lazy

from cifar_exp.compute import memory, seeding
from cifar_exp.compute.device import Compute
from cifar_exp.config.fields import AUTO
from cifar_exp.config.groups.model import LibraryConfig, ModelConfig
from cifar_exp.config.parse import OwnNode
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.dataset import Split
from cifar_exp.data.normalize import Normalizer, Statistics
from cifar_exp.data.split import spread_evenly
from cifar_exp.errors import RequestError, in_a_line
from cifar_exp.explain.layers import ExplainedLayers, choose_layers
from cifar_exp.models.construct import blueprint, make_network

log = logging.getLogger(__name__)

_INITIAL_IMAGES = 5000  # passed to a network that starts from training images
_TRIED_IMAGES = 2  # batch normalization of 1x1 feature maps needs more than one


def build_network(
    config: ExperimentConfig, train: Split, statistics: Statistics, compute: Compute, *, classes: int
) -> tuple[nn.Module, Compute, ExplainedLayers]:
    """Build the network as training starts from it; also returns its memory layout and the layers to explain.

    Raises:
        RequestError: a trial shows that it cannot be trained or explained as the config asks.
    """
    node, normalize = config.model, Normalizer(statistics, compute)
    key = f"model.architecture={node.architecture}" if isinstance(node, LibraryConfig) else f"model={node.name}"
    arguments: dict[str, Any] = {"num_classes": classes, "in_channels": train.images.shape[3]}
    _check_size(node, arguments)

    def make() -> nn.Module:
        model = make_network(node, **arguments)
        if not isinstance(model, nn.Module):
            raise RequestError(f"{node._target_}: must return a torch.nn.Module, returned a {type(model).__name__}")
        _complete(model, key, train.images[:1], normalize)
        return compute.place(model)

    model = make()
    _initialize(model, key, train, normalize)
    with seeding.generators_kept(compute.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself repeats them
        try:
            model_copy = copy.deepcopy(model)
        except Exception:  # PyTorch cannot copy computed tensors, such as the weight of the old weight_norm
            model_copy = make()
        trial = Trial(key, model_copy, train.images[:_TRIED_IMAGES], classes, statistics, compute)
        trial = trial.with_working_layout(config.memory_format)
        trial.check_other_inputs(config, len(train))
        explained = choose_layers(trial.model.eval(), trial.inputs[:1], config.explain)
    if explained.note is not None:
        log.info(explained.note)
    return trial.compute.place(model), trial.compute, explained


def _check_size(node: ModelConfig, arguments: dict[str, Any]) -> None:
    """Refuse a shipped network that does not fit in memory; trying it could crash other programs."""
    available = memory.memory_bytes()
    if isinstance(node, OwnNode) or available is None:
        return
    needed = 3 * 4 * count_parameters(blueprint(node, **arguments))  # float32, with a gradient and a momentum each
    if needed > available:
        sizes = f"{needed / 1e9:,.1f} GB, and this machine has {available / 1e9:,.1f} GB"
        raise RequestError(f"model={node.name}: weights, gradients and momentum take {sizes}; choose a smaller width")


def count_parameters(model: nn.Module) -> int:
    """Count the trainable and frozen parameter values, without buffers."""
    return sum(parameter.numel() for parameter in model.parameters())


def _complete(model: nn.Module, key: str, images: NDArray[np.uint8], normalize: Normalizer) -> None:
    """Initialize lazy parameters by a forward pass of (N, H, W, C) uint8 images; other networks are unchanged."""
    if not any(map(is_lazy, chain(model.parameters(), model.buffers()))):
        return
    batch = normalize(torch.from_numpy(images))
    model.to(batch.device).eval()
    with torch.no_grad():
        _forward(model, batch, key)
    model.train()
    lazy = [name for name, value in chain(model.named_parameters(), model.named_buffers()) if is_lazy(value)]
    if lazy:
        raise RequestError(f"{key}: a forward pass does not initialize the lazy parameters {', '.join(lazy)}")


def _initialize(model: nn.Module, key: str, train: Split, normalize: Normalizer) -> None:
    """Pass training images to a network that starts from them."""
    initialize = getattr(model, "initialize", None)
    if not callable(initialize):
        return
    try:
        inspect.signature(initialize).bind(None)
    except (TypeError, ValueError):
        log.info("%s: its method initialize is not called: it does not take one argument, the images", key)
        return
    try:
        initialize(normalize(torch.from_numpy(train.images[spread_evenly(len(train), _INITIAL_IMAGES)])))
    except Exception as error:
        raise RequestError(
            f"{key}: initialize(images) fails, which is called with up to {_INITIAL_IMAGES:,} normalized "
            f"training images (N, C, H, W) before training: {in_a_line(error)}"
        ) from error


@dataclass(frozen=True)
class Trial:
    """A copy of the initialized network, and the images that it is tried on.

    The methods raise ``RequestError`` if a pass fails, the output is not (N, classes), or nothing can be trained.
    """

    key: str  # the setting that names the network, for messages
    model: nn.Module  # the copy
    images: NDArray[np.uint8]  # (N, H, W, C) uint8, at most two training images
    classes: int  # number of logits that the network must return
    statistics: Statistics  # of the training images
    compute: Compute  # device, precision and memory layout

    @property
    def inputs(self) -> torch.Tensor:
        """(N, C, H, W); new each time, as a network may change its input in place."""
        return Normalizer(self.statistics, self.compute)(torch.from_numpy(self.images))

    def with_working_layout(self, memory_format: str) -> "Trial":
        """Check the network; ``memory_format=auto`` falls back to contiguous tensors if only those work."""
        try:
            self.check()
            return self
        except RequestError as error:
            if self.compute.memory_format is torch.contiguous_format:
                raise
            compute = replace(self.compute, memory_format=torch.contiguous_format)
            contiguous = replace(self, compute=compute, model=compute.place(self.model))
            try:
                contiguous.check()
            except RequestError:
                raise error from error.__cause__  # not the second error
            # The image size, which the whole message names, is not the reason.
            reason = in_a_line(error.__cause__) if error.__cause__ else error
            if memory_format != AUTO:
                text = f"memory_format={memory_format}: {reason}; memory_format=contiguous works"
                raise RequestError(text) from error
            log.warning("memory_format=auto: contiguous, as channels_last fails: %s", reason)
            return contiguous

    def check(self) -> None:
        """Make a forward pass in both modes and a backward pass in training mode."""
        begin_epoch = getattr(self.model, "begin_epoch", None)
        if begin_epoch is not None:
            begin_epoch(1)
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            values = f"{count_parameters(self.model):,} parameter values"
            raise RequestError(f"{self.key}: none of its {values} requires a gradient, so it cannot be trained")
        for mode in ("training", "evaluation"):
            self.model.train(mode == "training")
            with nullcontext() if mode == "training" else torch.inference_mode(), self.compute.autocast():
                output = _forward(self.model, self.inputs, f"{self.key}, in {mode} mode")
            if wrong := self._wrong_output(output):
                raise RequestError(
                    f"{self.key}: must return (N, classes), returned {wrong} in {mode} mode; "
                    f"the data has {self.classes} classes"
                )
            if mode == "training":
                self._backward(output)
        self.model.zero_grad(set_to_none=True)

    def _wrong_output(self, output: Any) -> str | None:
        if not isinstance(output, torch.Tensor):
            return "None" if output is None else f"a {type(output).__name__}"
        if tuple(output.shape) != (len(self.images), self.classes):
            sizes = ["N" if size == len(self.images) else str(size) for size in output.shape[:1]]
            return f"({', '.join([*sizes, *map(str, output.shape[1:])])})"
        return None if output.is_floating_point() else f"(N, {self.classes}) of {output.dtype}"

    def _backward(self, logits: torch.Tensor) -> None:
        if not logits.requires_grad:
            raise RequestError(
                f"{self.key}: the logits in training mode have no gradient; forward must not detach them or use no_grad"
            )
        try:
            logits.float().sum().backward()
        except Exception as error:
            raise RequestError(f"{self.key}: the backward pass fails: {in_a_line(error)}") from error

    def check_other_inputs(self, config: ExperimentConfig, images: int) -> None:
        """Refuse low-resolution images, and a last batch of a single image, that the network cannot process.

        Batch normalization of 1x1 feature maps needs two images. ``images`` is the number of training images.
        """
        if (size := config.augment.low_resolution.size) is not None:
            zeros = self.inputs.new_zeros(len(self.images), self.images.shape[3], size, size)
            with torch.no_grad():
                _forward(self.model.eval(), zeros, f"augment.low_resolution.size={size}")
        if 1 in (images, config.batch_size, images % config.batch_size):
            with torch.no_grad():
                what = f"batch_size={config.batch_size}: the last batch of {images:,} images has a single image"
                _forward(self.model.train(), self.inputs[:1], what)


def _forward(model: nn.Module, inputs: torch.Tensor, what: str) -> Any:
    try:
        return model(inputs)
    except Exception as error:  # a user's network can raise anything
        size = "x".join(str(inputs.shape[axis]) for axis in (2, 3, 1))
        raise RequestError(
            f"{what}: the model cannot process {size} images (data.image_size): {in_a_line(error)}"
        ) from error
