"""Names of ``_target_`` and config keys of earlier versions, for configs saved by them."""

from typing import Any

from cifar_exp.errors import RequestError

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


def drop_removed_keys(config: dict[str, Any]) -> None:
    """Drop the keys of removed features from a saved config, in place.

    Raises:
        RequestError: the saved run used such a feature.
    """
    used = None
    averaging, optimizer = config.get("averaging"), config.get("optimizer")
    if isinstance(averaging, dict) and "every_steps" in averaging and "name" not in averaging:  # Lookahead
        if averaging["every_steps"] is not None:
            used = f"averaging.every_steps={averaging['every_steps']}"
        del config["averaging"]
    if isinstance(optimizer, dict) and (decoupled := optimizer.pop("decoupled", False)):
        used = f"optimizer.decoupled={decoupled}"
    if used is not None:
        raise RequestError(f"{used}: this setting was removed; only cifar-exp 0.1.0 can repeat the run")


def with_tracker_names(config: dict[str, Any]) -> dict[str, Any]:
    """The same config; ``tracker.name=X`` of earlier versions becomes ``tracker.X=true``.

    >>> with_tracker_names({"tracker": {"name": "mlflow", "store": "s"}})
    {'tracker': {'store': 's', 'mlflow': True}}
    """
    node = config.get("tracker")
    if not isinstance(node, dict) or "name" not in node:
        return config
    name = str(node["name"])
    renamed = {key: value for key, value in node.items() if key != "name"}
    return config | {"tracker": renamed | ({} if name == "none" else {name: True})}
