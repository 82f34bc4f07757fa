"""Names of ``_target_`` in version 0.1.0, for configs saved by it."""

from typing import Any

_RENAMED = {
    "cifar_exp.muon.Muon": "cifar_exp.training.muon.Muon",
    **{
        f"cifar_exp.schedule.{name}": f"cifar_exp.training.schedule.{name}"
        for name in ("one_cycle", "cosine", "multistep", "triangle", "constant")
    },
}


def current_target(target: Any) -> Any:
    """The present name of a ``_target_``; any other value unchanged.

    >>> current_target("cifar_exp.muon.Muon")
    'cifar_exp.training.muon.Muon'
    """
    return _RENAMED.get(target, target) if isinstance(target, str) else target


def current_cell(column: str, cell: Any) -> Any:
    """A cell of ``summary.csv``, with the present name if the column holds a ``_target_``."""
    return current_target(cell) if column.endswith("._target_") else cell


def with_current_targets(node: Any) -> Any:
    """The same containers, each ``_target_`` with its present name."""
    if isinstance(node, dict):
        return {
            key: current_target(value) if key == "_target_" else with_current_targets(value)
            for key, value in node.items()
        }
    return [with_current_targets(value) for value in node] if isinstance(node, list) else node
