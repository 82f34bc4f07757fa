"""Networks from the config's ``model`` node."""

from typing import Any

import torch

from cifar_exp.config.groups.model import LibraryConfig, ModelConfig
from cifar_exp.config.targets import call


def make_network(node: ModelConfig, **to_classify: int) -> Any:
    """What the config's target returns: the network with random weights."""
    later = ("weights", "pretrained") if isinstance(node, LibraryConfig) else ()
    return call(node, without=later, **to_classify)


def blueprint(node: ModelConfig, **to_classify: int) -> Any:
    """A network for its names and shapes: on the meta device, without values, where it can be built there."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return make_network(node, **to_classify)
        except NotImplementedError:  # it computes with values while it is built, as RegNets do
            return make_network(node, **to_classify)


def tensor_shapes(node: ModelConfig, **to_classify: int) -> dict[str, torch.Size]:
    """The shapes of a network's weights and buffers."""
    return {name: value.shape for name, value in blueprint(node, **to_classify).state_dict().items()}
