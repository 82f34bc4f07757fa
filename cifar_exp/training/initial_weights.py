"""Weights that training starts from: those of a file, or those that the network's library publishes.

A run keeps them in ``checkpoints/initial.pt``, so that it can be resumed and reproduced without the file or a download.
Evaluation and prediction need neither: they use the weights of ``last.pt`` or ``best.pt``.
"""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cifar_exp.config.groups.model import LibraryConfig, ModelConfig
from cifar_exp.config.parse import changed
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import RequestError, in_a_line
from cifar_exp.models.construct import tensor_shapes
from cifar_exp.models.libraries import pretrained_state
from cifar_exp.run_dir import checkpoint
from cifar_exp.safe_io.untrusted import open_regular

log = logging.getLogger(__name__)

_FILE = Path("checkpoints", "initial.pt")  # in the run directory
_MOST_NAMED = 4  # tensors in a message


def load_initial_weights(model: nn.Module, node: ModelConfig, classes: int, channels: int) -> None:
    """Give the network the weights that the config's ``model`` node names; without any, it is unchanged.

    The classifier stays random if the number of classes differs, and the first convolution with ``model.stem=cifar``.
    A first convolution for other channels is adapted: gray images give the same features.

    Raises:
        RequestError: the weights cannot be read, or do not fit.
    """
    if not isinstance(node, LibraryConfig) or not node.starts_from_weights:
        return
    if node.weights is not None:
        what, state = f"model.weights={node.weights}", read_state(Path(node.weights))
    else:
        what = "model.pretrained=true"
        state = pretrained_state(node.library, node.architecture, channels, node.image_size)
    own = tensor_shapes(node, num_classes=classes, in_channels=channels)
    # The tensors whose shapes depend on the number of classes, and of channels (1 or 3).
    other_head = tensor_shapes(node, num_classes=classes + 1, in_channels=channels)
    other_first = tensor_shapes(node, num_classes=classes, in_channels=4 - channels)
    head, first = ({name for name in own if own[name] != others.get(name)} for others in (other_head, other_first))
    for name in first & state.keys():
        state[name] = _adapt_channels(state[name], own[name])
    free = head | (first if node.stem == "cifar" else set())
    new = {name for name in free if name not in state or state[name].shape != own[name]}
    random = model.state_dict()
    state |= {name: random[name] for name in new}
    if infinite := [name for name, one in state.items() if one.is_floating_point() and not one.isfinite().all()]:
        raise RequestError(f"{what}: has values that are not finite: {_join_names(infinite)}")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        differences = " ".join(str(error).partition("\n")[2].split())[:300]  # after PyTorch's first line
        raise RequestError(f"{what}: does not fit {node.architecture}: {differences}") from error
    log.info("%s: the weights of %s%s", what, node.architecture, f", but {_join_names(new)} new" if new else "")


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file: safetensors, or a state dict or checkpoint that ``torch.save`` wrote.

    Raises:
        RequestError: it cannot be read, or holds no tensors by name.
    """
    if path.suffix == ".safetensors":
        values = _read_safetensors(path)
    else:
        values = checkpoint.load_values(path, torch.device("cpu"))
        for key in ("model", "state_dict"):
            if isinstance(values, dict) and isinstance(values.get(key), dict):
                values = values[key]
    if not isinstance(values, dict) or not values or not all(isinstance(one, Tensor) for one in values.values()):
        raise RequestError(f"{path}: holds no weights: a dictionary of tensors is needed, as state_dict() returns it")
    return {str(name): value.detach() for name, value in values.items()}


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load
    except ImportError as error:
        raise RequestError(f"{path}: requires an optional dependency: pip install 'cifar-exp[export]'") from error
    try:
        with open_regular(path) as file:
            return load(file.read())
    except Exception as error:  # the library's errors have no common base
        raise RequestError(f"{path}: not a readable safetensors file: {in_a_line(error)}") from error


def _adapt_channels(weight: Tensor, shape: torch.Size) -> Tensor:
    """Adapt a first convolution to another number of input channels; unchanged if it differs in more than that."""
    is_first = weight.dim() == len(shape) and weight.shape[:1] + weight.shape[2:] == shape[:1] + shape[2:]
    return weight.sum(1, keepdim=True).expand(shape) / shape[1] if is_first and weight.shape != shape else weight


def _join_names(names: Collection[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(sorted(names)[:_MOST_NAMED]) + (f" (and {more} more)" if more > 0 else "")


def save_initial_weights(config: ExperimentConfig, model: nn.Module, run_dir: Path) -> None:
    """Write a run's initial weights if they are not random."""
    path = run_dir / _FILE
    if isinstance(config.model, LibraryConfig) and config.model.starts_from_weights and not path.exists():
        checkpoint.save(path, model)


def use_saved_weights(config: ExperimentConfig, run_dir: Path) -> ExperimentConfig:
    """Return a run's config with the weights in its directory in place of the file or download."""
    path = run_dir / _FILE
    if isinstance(config.model, LibraryConfig) and config.model.starts_from_weights and path.is_file():
        return changed(config, {"model.weights": str(path.absolute()), "model.pretrained": False})
    return config
