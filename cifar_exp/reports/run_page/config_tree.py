"""A run's config as a tree, what differs from the defaults marked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra.core.global_hydra import GlobalHydra

from cifar_exp.config.parse import flatten


@dataclass(frozen=True)
class Node:
    """A key of the config.

    Attributes:
        key: its last part.
        value: as YAML would write it; empty for an inner node.
        children: of an inner node.
        changed: whether the value differs from the default, or how many below it do.
        default: what the default is, as YAML would write it; None where the default config has no such key.
    """

    key: str
    value: str
    children: tuple["Node", ...]
    changed: int
    default: str | None


@cache
def default_leaves() -> Mapping[str, Any]:
    """The config that is composed where nothing is typed, by dotted key."""
    from cifar_exp.config.compose import compose_job, without_hydra
    from cifar_exp.config.resolved import resolve

    # Composing takes Hydra's global state, which a sweep around this run has in use.
    state = GlobalHydra.instance()
    before = state.hydra
    try:
        return flatten(resolve(without_hydra(compose_job([]))))
    finally:
        state.hydra = before


def config_tree(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[Node, ...]:
    """The nodes of a resolved config.

    Args:
        config: nested.
        defaults: by dotted key.
    """
    return tuple(_node(str(key), str(key), value, defaults) for key, value in config.items())


def _node(key: str, dotted: str, value: Any, defaults: Mapping[str, Any]) -> Node:
    if isinstance(value, dict) and value:
        children = tuple(_node(str(name), f"{dotted}.{name}", one, defaults) for name, one in value.items())
        return Node(key, "", children, sum(child.changed for child in children), None)
    if isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        return _node(key, dotted, dict(enumerate(value)), defaults)
    if dotted in defaults:
        return Node(key, as_yaml(value), (), int(value != defaults[dotted]), as_yaml(defaults[dotted]))
    # An empty mapping has no leaf, neither here nor in the defaults.
    return Node(key, as_yaml(value), (), int(value != {}), None)


def as_yaml(value: Any) -> str:
    """A leaf as one would write it in a config.

    >>> as_yaml(None), as_yaml(True), as_yaml([1, 0.5]), as_yaml("a b")
    ('null', 'true', '[1, 0.5]', 'a b')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    return str(value)
