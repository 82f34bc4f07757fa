"""Config keys of version 0.1.0 that no longer exist, for configs saved by it."""

from typing import Any

from cifar_exp.errors import RequestError

# Group, key, the value that turned the feature off, and keys that went with it.
_REMOVED: tuple[tuple[str, str, Any, tuple[str, ...]], ...] = (
    ("averaging", "every_steps", None, ("decay", "power")),  # Lookahead
    ("optimizer", "decoupled", False, ()),
)


def drop_removed_keys(config: dict[str, Any]) -> None:
    """Drop removed keys from a saved config, in place, if they are at the value that turned the feature off.

    Raises:
        RequestError: the saved run used the removed feature.
    """
    for group, key, off, companions in _REMOVED:
        node = config.get(group)
        if not isinstance(node, dict) or key not in node or (companions and "name" in node):
            continue
        if node[key] != off:
            raise RequestError(
                f"{group}.{key}={node[key]}: this setting was removed; only cifar-exp 0.1.0 can repeat the run"
            )
        for name in (key, *companions):
            node.pop(name, None)
        if not node:
            config.pop(group)
