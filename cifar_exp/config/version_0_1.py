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


def current_cell(column: str, cell: Any) -> Any:
    """A cell of ``summary.csv``, with the present name if the column holds a ``_target_``.

    >>> current_cell("config.optimizer._target_", "cifar_exp.muon.Muon")
    'cifar_exp.training.muon.Muon'
    """
    return _RENAMED.get(str(cell), cell) if column.endswith("_target_") else cell


def with_current_targets(node: Any) -> Any:
    """The same containers, each ``_target_`` with its present name."""
    if isinstance(node, dict):
        return {key: current_cell(str(key), with_current_targets(value)) for key, value in node.items()}
    return [with_current_targets(value) for value in node] if isinstance(node, list) else node


def upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """A saved config without the keys of removed features; ``tracker.name=X`` becomes ``tracker.X=true``.

    >>> upgraded({"tracker": {"name": "mlflow", "store": "s"}, "optimizer": {"decoupled": False}})
    {'tracker': {'store': 's', 'mlflow': True}, 'optimizer': {}}

    Raises:
        RequestError: the saved run used such a feature.
    """
    config = {key: dict(node) if isinstance(node, dict) else node for key, node in config.items()}
    nodes = {key: node for key, node in config.items() if isinstance(node, dict)}
    used = {"optimizer.decoupled": nodes.get("optimizer", {}).pop("decoupled", False)}
    averaging = nodes.get("averaging", {})
    if "every_steps" in averaging and "name" not in averaging:  # Lookahead
        used["averaging.every_steps"] = config.pop("averaging")["every_steps"]
    for key, value in used.items():
        if value:
            raise RequestError(f"{key}={value}: this setting was removed; only cifar-exp 0.1.0 can repeat the run")
    tracker = nodes.get("tracker", {})
    name = str(tracker.pop("name", "none"))
    if name != "none":
        tracker[name] = True
    return config
