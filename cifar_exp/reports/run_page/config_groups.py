"""A run's config by group, with the differences from the defaults marked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra.core.global_hydra import GlobalHydra

from cifar_exp.config.parse import flatten


@dataclass(frozen=True)
class Leaf:
    """A value of the config."""

    key: str  # dotted, below its group
    value: str  # in YAML
    default: str | None  # in YAML; None if the default config has no such key
    changed: bool  # whether the value differs from the default


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


def config_groups(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, list[Leaf]]:
    """The leaves of a resolved config (nested) by top-level key, compared with the defaults (by dotted key)."""
    groups: dict[str, list[Leaf]] = {}
    for dotted, value in flatten(config).items():
        group, _, key = dotted.partition(".")
        default = as_yaml(defaults[dotted]) if dotted in defaults else None
        changed = dotted not in defaults or value != defaults[dotted]
        groups.setdefault(group, []).append(Leaf(key or group, as_yaml(value), default, changed))
    return groups


def as_yaml(value: Any) -> str:
    """A value of a config in YAML.

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
