"""Chooses the layers that Grad-CAM explains, by a forward pass with hooks, and tries them before training."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from cifar_exp.config.schema import ExplainConfig
from cifar_exp.errors import RequestError, in_a_line

log = logging.getLogger(__name__)

_TOKENS = "tokens (N, T, C), where (N, C, h, w) is needed"
_CHANNELS_LAST = "channels last (N, h, w, C), where (N, C, h, w) is needed"
_MOST_TRIED = 10  # feature maps, from the last one backwards, for a network without layerN


@dataclass(frozen=True)
class LayerMap:
    """A layer and the size of its feature map in pixels."""

    name: str
    height: int
    width: int

    def at_least(self, minimum: int) -> bool:
        """Whether both sides have ``minimum`` pixels."""
        return min(self.height, self.width) >= minimum


@dataclass(frozen=True)
class ExplainedLayers:
    """The layers that Grad-CAM explains."""

    layers: list[LayerMap]  # in order of depth; empty if there are none
    note: str | None = None  # a sentence for the log and the page if the layers are not those that the config asks for


def is_wanted(node: ExplainConfig) -> bool:
    """Whether the config's ``explain`` node asks for any map."""
    return node.images > 0 and node.layers != [] and node.indices != []


def grad_cam(model: nn.Module, layer: str, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute Captum's ``LayerGradCam`` for the (N,) target classes: (N, 1, h, w), before Grad-CAM's ReLU."""
    from captum.attr import LayerGradCam  # takes seconds, with matplotlib.pyplot; not every run makes maps

    # A copy of the input: the network may change it in place.
    maps = LayerGradCam(model, model.get_submodule(layer)).attribute(inputs.clone(), target=targets)
    return maps.detach()


def choose_layers(model: nn.Module, inputs: torch.Tensor, node: ExplainConfig) -> ExplainedLayers:
    """Choose the layers to explain and log what is left out.

    ``model`` is in evaluation mode, in float32. Without ``explain.layers``, its direct children ``layer1``, ``layer2``
    and so on are explained, or else its last feature map.

    Raises:
        RequestError: a named layer does not exist or has no feature map.
    """
    if not is_wanted(node):
        return ExplainedLayers([])
    found, minimum, is_named = feature_maps(model, inputs), node.minimum_map, node.layers is not None
    children = [name for name, _ in model.named_children() if name.rstrip("0123456789") == "layer"]
    layers = []
    for name in children if node.layers is None else node.layers:
        layer = _explainable(model, inputs, found, name)
        if isinstance(layer, LayerMap):
            layers.append(layer)
        elif is_named:
            raise RequestError(f"explain.layers: {name!r} cannot be explained: {layer}")
        else:
            log.warning("Grad-CAM leaves out %s: %s", name, layer)
    if not layers:
        return _last_feature_map(model, inputs, found, max(minimum, 2))  # pooling leaves one pixel
    small = ", ".join(f"{one.name} ({one.height}x{one.width})" for one in layers if not one.at_least(minimum))
    if small and is_named:
        log.warning("Grad-CAM maps under %dx%d say little about where: %s", minimum, minimum, small)
    elif small:
        log.info("Grad-CAM leaves out maps under %dx%d: %s (explain.layers names them)", minimum, minimum, small)
        layers = [layer for layer in layers if layer.at_least(minimum)]
    note = None if layers else f"Grad-CAM: every layer's map is smaller than {minimum}x{minimum} (explain.minimum_map)."
    return ExplainedLayers(layers, note)


def feature_maps(model: nn.Module, inputs: torch.Tensor) -> dict[str, LayerMap | str]:
    """For each submodule in the order of its last call, its feature map, or the reason why its output is none."""
    found: dict[str, LayerMap | str] = {}

    def keep(name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        found.pop(name, None)  # called again: now it is the last one
        found[name] = _feature_map(name, output, inputs)

    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            if name:
                hooks.enter_context(module.register_forward_hook(partial(keep, name)))
        model(inputs.clone())
    return found


def _feature_map(name: str, output: object, inputs: torch.Tensor) -> LayerMap | str:
    """The feature map that a layer returns for these images, or the reason why it is none."""
    if not isinstance(output, torch.Tensor):
        return f"it returns a {type(output).__name__}, not a tensor"
    shape = f"its output shape is {tuple(output.shape)}"
    if output.dim() == 3:
        return f"{shape}: {_TOKENS}"
    if output.dim() != 4 or len(output) != len(inputs):
        return f"{shape}, not that of a feature map (N, C, h, w)"
    _, first, second, third = output.shape
    if _like_the_image(first, second, inputs) and not _like_the_image(second, third, inputs):
        return f"{shape}: {_CHANNELS_LAST}"
    if third > 1 and _are_distributions(output):
        return f"{shape}: attention weights"
    return LayerMap(name, second, third)


def _are_distributions(rows: torch.Tensor) -> bool:
    return bool(rows.min() >= 0) and torch.allclose(rows.float().sum(3), rows.new_ones(1).float())


def _like_the_image(rows: int, columns: int, inputs: torch.Tensor) -> bool:
    """Whether a map has the images' aspect ratio, but for a rounded pixel."""
    height, width = inputs.shape[2:]
    return abs(rows * width - columns * height) <= max(height, width)


def _explainable(
    model: nn.Module, inputs: torch.Tensor, found: Mapping[str, LayerMap | str], name: str
) -> LayerMap | str:
    """A layer's feature map, or the reason why it cannot be explained: Captum is asked for one map."""
    modules = {other for other, _ in model.named_modules() if other}
    children = ", ".join(child for child, _ in model.named_children())
    layer = found.get(name, "it is never called" if name in modules else f"no such layer; the model has {children}")
    if isinstance(layer, LayerMap):
        try:
            grad_cam(model, name, inputs, torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device))
        except Exception as error:  # a user's network can raise anything
            return f"it has no gradient: {in_a_line(error)}"
    return layer


def _last_feature_map(
    model: nn.Module, inputs: torch.Tensor, found: Mapping[str, LayerMap | str], minimum: int
) -> ExplainedLayers:
    """The last feature map that is large enough and has a gradient, for a network without a usable ``layerN``."""
    maps = [layer for layer in found.values() if isinstance(layer, LayerMap) and layer.at_least(minimum)]
    large = [layer for layer in maps if _like_the_image(layer.height, layer.width, inputs)]
    reasons = [one for one in found.values() if isinstance(one, str)]
    has_tokens = any(reason.endswith((_TOKENS, _CHANNELS_LAST)) for reason in reasons)
    if large and large[-1].name == next(iter(found)) and has_tokens:
        # A transformer's first layer only cuts the image into patches.
        return ExplainedLayers([], "No Grad-CAM: after its first layer, the model has tokens instead of feature maps.")
    for layer in large[::-1][:_MOST_TRIED]:
        if isinstance(_explainable(model, inputs, found, layer.name), LayerMap):
            note = (
                f"Grad-CAM explains {layer.name} ({layer.height}x{layer.width}), the last feature map of at least "
                f"{minimum}x{minimum}: the model has no usable layer1, layer2, ... (explain.layers names others)."
            )
            return ExplainedLayers([layer], note)
    return ExplainedLayers(
        [], f"No Grad-CAM: the model has no feature map (N, C, h, w) of at least {minimum}x{minimum}."
    )
