"""Plain containers to a typed config and back.

``parse`` checks targets, keys, types, values and combinations, and returns an ``ExperimentConfig``. A node whose
``_target_`` has no typed config becomes an ``OwnNode``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from cifar_exp.config.groups.model import LibraryConfig
from cifar_exp.config.groups.scheduler import SCHEDULERS, PlateauConfig
from cifar_exp.config.schema import REGISTRY, ExperimentConfig, group_schema
from cifar_exp.config.suggestions import unknown_key
from cifar_exp.config.targets import check_targets
from cifar_exp.config.version_0_1 import with_current_targets
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.plural import plural

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

# The groups whose typed config is found by the node's ``_target_``.
BY_TARGET = ("model", "data", "optimizer", "scheduler")
_MISSING = "???"
_MOST_SHOWN = 200  # characters of a wrong value

T = TypeVar("T")


class OwnNode(dict[str, Any]):
    """A group's node whose ``_target_`` has no typed config: a mapping whose keys are also attributes.

    A missing key that all options of the group share has its default; a missing name is that of the target.
    """

    def __init__(self, group: str, node: Mapping[str, Any]) -> None:
        super().__init__(node)
        self.__dict__ = {one.name: one.default for one in fields(REGISTRY[group].shared)} | dict(node)
        if self.__dict__["name"] == _MISSING:
            self.__dict__["name"] = str(node.get("_target_", group)).rpartition(".")[2]


def parse(values: Mapping[str, Any]) -> ExperimentConfig:
    """Check plain containers and convert them to a config.

    Raises:
        RequestError: the first two problems, a line each: the key, the value, the allowed values.
    """
    values = with_current_targets(dict(values))
    trust = values.get("trust", [])
    check_targets(values, trust if isinstance(trust, list) else [])
    problems: list[str] = []
    nodes = {group: _parse_group(group, values.get(group), problems) for group in BY_TARGET}
    config = _parse(ExperimentConfig, {**values, **nodes}, "", problems)
    if config is not None and not problems:
        problems += _contradictions(config)
    if problems or config is None:
        more = f" (and {plural(len(problems) - 2, 'more problem')})" if len(problems) > 2 else ""
        raise RequestError("\n".join(problems[:2]) + more)
    return config


def _parse_group(group: str, node: Any, problems: list[str]) -> Any:
    if not isinstance(node, dict):
        problems.append(f"{group}={node}: must be one of the group's options")
        return node
    schema = group_schema(group, node.get("_target_"))
    if schema is not None:
        return _parse(schema, node, f"{group}.", problems) or node
    shared = REGISTRY[group].shared
    known = {one.name for one in fields(shared)}
    _parse(shared, {"name": group} | {key: value for key, value in node.items() if key in known}, f"{group}.", problems)
    return OwnNode(group, node)


def _parse(schema: type[T], node: Mapping[str, Any], prefix: str, problems: list[str]) -> T | None:
    """An instance of ``schema``; None after adding its problems to the list."""
    from pydantic import ValidationError  # not at the top: `--help` does not need it

    try:
        parsed: T = _adapter(schema).validate_python(node)  # type: ignore[arg-type]  # a class can be hashed
    except ValidationError as error:
        problems += [_in_words(one, prefix) for one in error.errors(include_url=False)]
        return None
    missing = [prefix + key for key, value in flatten(parsed).items() if value == _MISSING]
    problems += [f"{key}: is required" for key in missing]
    return None if missing else parsed


@cache
def _adapter(schema: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


def _in_words(error: "ErrorDetails", prefix: str) -> str:
    key = prefix + ".".join(map(str, error["loc"]))
    value, text, message = error["input"], as_yaml(error["input"]), error["msg"]
    shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
    if error["type"] == "unexpected_keyword_argument":
        return unknown_key(key)
    if value == _MISSING or error["type"] == "missing":
        return f"{key}: is required"
    if error["type"] == "dataclass_type":
        return f"{key}={shown}: must be keys with values; set one of them: {key}.KEY=VALUE"
    return f"{key}={shown}: {message.replace('Input should be', 'must be')}"


def _contradictions(config: ExperimentConfig) -> Iterator[str]:
    """A line for each combination of values that cannot work, as far as the config alone shows."""
    if config.tracker.mlflow and config.tracker.store is None:
        yield "tracker.store=null: MLflow needs a folder; the default is outputs/mlflow"
    if config.evaluation.weights == "best" and not config.checkpoint.best:
        yield "evaluation.weights=best: needs checkpoint.best=true"
    if isinstance(config.model, LibraryConfig) and config.model.pretrained and config.model.weights is not None:
        yield f"model.pretrained=true: model.weights={config.model.weights} is set, too; set one of them"
    small, full = config.augment.low_resolution.size, config.data.image_size
    if small is not None and small > full:
        yield f"augment.low_resolution.size={small}: must be at most data.image_size={full}"
    schedule, patience = config.scheduler, config.early_stopping.patience
    if patience is not None and not isinstance(schedule, OwnNode) and not schedule.open_ended:
        options = SCHEDULERS.schemas.items()
        able = sorted(name.removeprefix("base_") for name, one in options if getattr(one, "open_ended", False))
        yield (
            f"early_stopping.patience={patience}: scheduler={schedule.name} plans the learning rate up to the last "
            f"epoch and cannot stop early; use a scheduler of {', '.join(able)}"
        )
    if config.data.validation_fraction > 0 or config.evaluate_test_each_epoch:
        return
    for what, selects in (
        ("evaluation.weights=best", config.evaluation.weights == "best"),
        (f"early_stopping.patience={patience}", patience is not None),
        ("scheduler=plateau", isinstance(schedule, PlateauConfig)),
    ):
        if selects:
            what_to_do = "set data.validation_fraction above 0 or evaluate_test_each_epoch=true"
            yield f"{what}: needs an accuracy to select by; {what_to_do}"


def as_containers(node: Any) -> Any:
    """A config, or a part of one, as plain containers, for comparing, saving and hashing."""
    if is_dataclass(node) and not isinstance(node, type):
        items = {one.name: as_containers(getattr(node, one.name)) for one in fields(node)}
        if isinstance(node, ExperimentConfig):
            del items["sweep"]  # it concerns the sweep, not the single job
        return items
    if isinstance(node, Mapping):
        return {key: as_containers(value) for key, value in node.items()}
    return [as_containers(value) for value in node] if isinstance(node, list | tuple) else node


def changed(config: ExperimentConfig, values: Mapping[str, Any]) -> ExperimentConfig:
    """A copy with other values.

    ``values`` are by dotted key; a whole node is given as plain containers.

    Raises:
        RequestError: no such key, or a value that is not allowed.
    """
    copy = as_containers(config)
    for key, value in values.items():
        *parents, leaf = key.split(".")
        node = copy
        for parent in parents:
            node = node[parent]
        node[leaf] = as_containers(value)
    return parse(copy)


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key, in order. A list of plain values is a leaf; an empty mapping has no leaf.

    >>> flatten({"data": {"root": None, "sizes": [1, 2]}})
    {'data.root': None, 'data.sizes': [1, 2]}
    """
    if is_dataclass(node):
        node = as_containers(node)
    if isinstance(node, dict):
        items = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list) and any(isinstance(value, dict | list) for value in node):
        items = [(str(position), value) for position, value in enumerate(node)]
    else:
        return {prefix: node}
    leaves: dict[str, Any] = {}
    for key, value in items:
        leaves |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return leaves


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
