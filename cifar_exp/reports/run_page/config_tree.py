"""A run's config as a tree, with the differences from the defaults marked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra.core.global_hydra import GlobalHydra

from cifar_exp.config.parse import as_yaml, flatten


@dataclass(frozen=True)
class Node:
    """A key of the config."""

    key: str  # its last part
    value: str  # in YAML; empty for an inner node
    children: tuple["Node", ...]  # the keys of an inner node
    changed: int  # whether the value differs from the default; of an inner node, how many values below it do
    default: str | None  # in YAML; None if the default config has no such key


@cache
def default_leaves() -> Mapping[str, Any]:
    """The config without any override, by dotted key."""
    from cifar_exp.config.compose import compose_config

    # Composing replaces Hydra's global state, which a sweep around this run still needs.
    state = GlobalHydra.instance()
    before = state.hydra
    try:
        return flatten(compose_config())
    finally:
        state.hydra = before


def config_tree(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[Node, ...]:
    """The nodes of a resolved config (nested), compared with the defaults (by dotted key)."""
    return tuple(_node(str(key), str(key), value, defaults) for key, value in config.items())


def _node(key: str, dotted: str, value: Any, defaults: Mapping[str, Any]) -> Node:
    if isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        value = dict(enumerate(value))
    if isinstance(value, dict) and value:
        children = tuple(_node(str(name), f"{dotted}.{name}", one, defaults) for name, one in value.items())
        return Node(key, "", children, sum(child.changed for child in children), None)
    # An empty mapping has no leaf, neither here nor in the defaults.
    changed = value != defaults.get(dotted, {})
    return Node(key, as_yaml(value), (), int(changed), as_yaml(defaults[dotted]) if dotted in defaults else None)
