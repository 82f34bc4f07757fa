"""A composed or saved configuration: validated, resolved to plain values, flattened, hashed.

Leaves out Hydra's runtime on purpose: everything here works on a configuration from any source.
"""

import hashlib
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifar_exp.errors import RequestError
from cifar_exp.schema import TARGET_SCHEMAS, ExperimentConfig
from cifar_exp.targets import check_targets
from cifar_exp.untrusted import displayable, read_yaml_text

GROUPS = ("model", "data", "augment", "optimizer", "scheduler")
AUTO = "auto"  # max_lr's value where a range test is to find it

_DEVICES = ("auto", "cpu", "cuda", "mps")
_CHOICES = {
    "precision": ("auto", "float32", "bfloat16"),
    "memory_format": ("auto", "contiguous", "channels_last"),
    "augment_backend": ("auto", "albumentations", "device"),
    "scheduler.interval": ("step", "epoch"),
    "scheduler.anneal_strategy": ("cos", "linear"),
    "evaluation.weights": ("last", "best"),
    "tracker.name": ("none", "tensorboard", "mlflow"),
    "evaluation.test_time_augmentation": ("none", "mirror", "mirror_translate"),
}
# key: (lowest, highest); None is open. A key that a composed config lacks, or that is null, is skipped.
_AT_LEAST: dict[str, tuple[float | None, float | None]] = {
    "seed": (0, 2**63 - 1),
    "epochs": (1, None),
    "batch_size": (1, None),
    "threads": (1, None),
    "label_smoothing": (0, 1),
    "model.width": (1, None),
    "model.norm_momentum": (0, 1),
    "model.whitening_bias_epochs": (0, None),
    "data.image_size": (4, 1024),
    "data.split_seed": (0, 2**63 - 1),
    "data.limit_train": (1, None),
    "data.limit_test": (1, None),
    "data.workers": (0, None),
    "data.statistics_decimals": (0, 15),
    "augment.low_resolution.size": (4, 1024),
    "augment.low_resolution.fraction": (0, 1),
    "optimizer.weight_decay": (0, None),
    "optimizer.momentum": (0, 1),
    "optimizer.sgd_momentum": (0, 1),
    "scheduler.pct_start": (0, 1),
    "scheduler.start_factor": (0, 1),
    "scheduler.end_factor": (0, 1),
    "scheduler.warmup_fraction": (0, 1),
    "scheduler.base_momentum": (0, 1),
    "scheduler.max_momentum": (0, 1),
    "averaging.every_steps": (1, None),
    "averaging.decay": (0, 1),
    "averaging.power": (0, None),
    "evaluation.batch_size": (1, None),
    "evaluation.gallery_images": (0, 200),
    "explain.images": (0, 200),
    "explain.minimum_map": (1, None),
    "checkpoint.every_epochs": (1, None),
}
_MOST_CHANNELS = 1_000_000
_LARGEST = 1e30  # single precision ends at 3.4e38, and numbers are multiplied
# Far beyond use; what is larger ends the program, or its user's patience, before the first step.
_AT_MOST = {
    "epochs": 1_000_000,
    "batch_size": 1_000_000,
    "threads": 256,
    "model.width": _MOST_CHANNELS,
    "data.workers": 128,
    "evaluation.batch_size": 1_000_000,
}
_ABOVE_ZERO = (
    "model.whitening_epsilon",
    "model.logit_scale",
    "optimizer.eps",
    "optimizer.bias_lr_factor",
    "optimizer.head_lr_factor",
    "scheduler.div_factor",
    "scheduler.final_div_factor",
    "scheduler.gamma",
    "checkpoint.every_seconds",
)
_LISTS_OF: dict[tuple[str, str], tuple[type | tuple[type, ...], str]] = {
    ("explain", "indices"): (int, "whole numbers"),
    ("explain", "layers"): (str, "names"),
    ("model", "widths"): (int, "whole numbers"),
    ("scheduler", "milestones"): ((int, float), "numbers"),
}
# What giving a configuration its schema can raise; the second, for a whole number that no float can hold.
SCHEMA_ERRORS = (OmegaConfBaseException, OverflowError)
_PATHS = ("data.root", "data.cache", "tracker.store")


def resolve(config: DictConfig, base: str = "") -> dict[str, Any]:
    """Turn a composed configuration into plain containers: no interpolation left, paths absolute.

    Args:
        config: as composed.
        base: folder that relative paths start from; the current one if empty.

    Raises:
        RequestError: a mandatory value is missing or an interpolation cannot be resolved.
    """
    try:
        plain = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise RequestError(first_line(error)) from error
    plain.pop("sweep", None)  # about the jobs of a sweep, not about any one of them
    for group in GROUPS:
        if not isinstance(plain[group], dict):
            raise RequestError(f"{group}={plain[group]}: must be one of the group's options")
    for key in _PATHS:
        group, leaf = key.split(".")
        if plain[group].get(leaf) is not None:
            # Absolute, so that the saved config means the same from another current folder.
            plain[group][leaf] = _absolute(plain[group][leaf], key, base)
    plain["max_lr"] = _as_learning_rate(plain["max_lr"])
    return _as_text(plain, "")


def _absolute(value: Any, key: str, base: str) -> str:
    try:
        return str(Path(base, Path(value).expanduser()).absolute())
    except (TypeError, RuntimeError) as error:  # no text; the home of a user that there is none of
        raise RequestError(f"{key}={value}: is not a path: {error}") from error


def _as_text(node: Any, path: str) -> Any:
    """The same containers with proper text in them; a path keeps the bytes that the file system knows it by."""
    if isinstance(node, dict):
        return {key: _as_text(value, f"{path}.{key}" if path else str(key)) for key, value in node.items()}
    if isinstance(node, list):
        return [_as_text(value, path) for value in node]
    return displayable(node) if isinstance(node, str) and path not in _PATHS else node


def _as_learning_rate(value: Any) -> Any:
    """A number as a float, so that 1, 1.0 and "1" are one configuration, as they are for a key typed float.

    The schema leaves this key open, for it can be a word, too; what is neither is left for ``validate`` to refuse.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except ValueError:
        return value


def validate(config: dict[str, Any]) -> None:
    """Check every value that the types alone cannot.

    Args:
        config: a resolved configuration (see ``resolve``).

    Raises:
        RequestError: one line for each wrong value: what it is, what is allowed.
    """
    check_targets(config, config["trust"])
    leaves = flatten(config)
    # A group of the user's own has no schema, so a number's type is not known before here.
    problems = [
        f"{key}={leaves[key]}: must be a number"
        for key in (*_ABOVE_ZERO, *_AT_LEAST)
        if leaves.get(key) is not None and not isinstance(leaves[key], int | float)
    ]
    for (group, name), (kind, what) in _LISTS_OF.items():
        items = config[group].get(name)
        # OmegaConf lets a list pass for a number in a list.
        if isinstance(items, list) and not all(isinstance(item, kind) for item in items):
            problems.append(f"{group}.{name}={items}: must be a list of {what}")
    if problems:
        raise RequestError("\n".join(problems))
    problems += [
        f"{key}={leaves[key]}: must be a finite number above 0"
        for key in _ABOVE_ZERO
        if leaves.get(key) is not None and not (math.isfinite(leaves[key]) and leaves[key] > 0)
    ]
    numbers = {key: leaves[key] for key in (*_ABOVE_ZERO, "max_lr") if isinstance(leaves.get(key), int | float)}
    problems += [
        f"{key}={value}: must be between {1 / _LARGEST:g} and {_LARGEST:g}"
        for key, value in numbers.items()
        if 0 < value < 1 / _LARGEST or _LARGEST < value < math.inf
    ]
    max_lr = config["max_lr"]
    is_number = isinstance(max_lr, int | float) and not isinstance(max_lr, bool)
    if max_lr != AUTO and not (is_number and math.isfinite(max_lr) and max_lr > 0):
        problems.append(f"max_lr={max_lr}: must be a finite number above 0, or {AUTO} (a range test finds it)")
    for key, (low, high) in _AT_LEAST.items():
        value = leaves.get(key)
        if value is not None and not ((low is None or value >= low) and (high is None or value <= high)):
            wanted = f"at least {low}" if high is None else f"between {low} and {high}"
            problems.append(f"{key}={value}: must be {wanted}")
        elif value is not None and value > _LARGEST:
            problems.append(f"{key}={value}: must be a finite number, at most {_LARGEST:g}")
    problems += [
        f"{key}={leaves[key]}: must be at most {most}"
        for key, most in _AT_MOST.items()
        if leaves.get(key) is not None and leaves[key] > most
    ]
    for key, choices in _CHOICES.items():
        if leaves.get(key) is not None and leaves[key] not in choices:
            problems.append(f"{key}={leaves[key]}: must be one of {', '.join(choices)}")
    fraction = config["data"].get("validation_fraction", 0.0)
    if not 0 <= fraction < 1:
        problems.append(f"data.validation_fraction={fraction}: must be at least 0 and below 1")
    device = config["device"]
    if device not in _DEVICES and not (re.fullmatch(r"cuda:[0-9]{1,3}", device)):
        problems.append(f"device={device}: must be one of {', '.join(_DEVICES)} or cuda:N")
    sha256 = config["data"].get("sha256")
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256):
        problems.append(f"data.sha256={sha256}: must be 64 hexadecimal digits in lower case")
    milestones = config["scheduler"].get("milestones")
    if milestones is not None and not all(0 < m < 1 for m in milestones):
        problems.append(f"scheduler.milestones={milestones}: each must be above 0 and below 1")
    if leaves["tracker.name"] == "mlflow" and config["tracker"]["store"] is None:
        problems.append("tracker.store=null: MLflow needs a folder; the default is outputs/mlflow")
    peak_at = config["scheduler"].get("peak_at")
    if peak_at is not None and not 0 <= peak_at < 1:
        problems.append(f"scheduler.peak_at={peak_at}: must be at least 0 and below 1")
    widths = config["model"].get("widths")
    if widths is not None and not (len(widths) == 3 and min(widths) >= 1 and max(widths) <= _MOST_CHANNELS):
        problems.append(f"model.widths={widths}: must be three numbers of channels, each from 1 to {_MOST_CHANNELS}")
    if config["optimizer"].get("decoupled") and "momentum" not in config["optimizer"]:
        problems.append("optimizer.decoupled=true: needs optimizer.momentum")
    elif config["optimizer"].get("decoupled") and config["optimizer"]["momentum"] == 1:
        problems.append("optimizer.momentum=1: must be below 1 where optimizer.decoupled=true")
    if config["evaluation"]["weights"] == "best" and not config["checkpoint"]["best"]:
        problems.append("evaluation.weights=best: needs checkpoint.best=true")
    if config["evaluation"]["weights"] == "best" and fraction == 0 and not config["evaluate_test_each_epoch"]:
        problems.append(
            "evaluation.weights=best: there is nothing to select on; set data.validation_fraction above 0 "
            "or evaluate_test_each_epoch=true"
        )
    problems += [f"explain.indices={i}: image numbers start at 0" for i in config["explain"]["indices"] or [] if i < 0]
    if problems:
        raise RequestError("\n".join(problems))


def load_saved(path: Path, trust: Sequence[str] = ()) -> dict[str, Any]:
    """Read a saved ``config_resolved.yaml``, typed and validated as if it had been typed in.

    The file is untrusted: it is parsed by YAML's safe loader, interpolations are refused, and only allowed
    ``_target_``s pass. What it says about ``trust`` is dropped: only whoever runs it can let a package in.

    Args:
        path: of the file.
        trust: packages that the user lets in.

    Raises:
        RequestError: the file is missing, is not a configuration, or holds what is not allowed.
    """
    raw = _read_yaml(path)
    interpolated = [key for key, value in flatten(OmegaConf.to_container(raw)).items() if "${" in str(value)]
    if interpolated:
        raise RequestError(f"{path}: {interpolated[0]} holds an interpolation; a saved config has none")
    try:
        typed = with_schema(raw)
    except SCHEMA_ERRORS as error:
        raise RequestError(f"{path}: {first_line(error)}") from error
    typed.trust = list(trust)
    config = resolve(typed)
    validate(config)
    return config


def saved_hash(path: Path) -> str:
    """``config_hash`` of a saved file as it stands, to be held against the one that its run recorded."""
    return config_hash(read_plain(path))


def read_plain(path: Path) -> dict[str, Any]:
    """A saved config as plain containers, to be shown: not validated, nothing filled in, interpolations left as text.

    Raises:
        RequestError: the file cannot be read or is not a configuration.
    """
    return cast("dict[str, Any]", OmegaConf.to_container(_read_yaml(path)))


def _read_yaml(path: Path) -> DictConfig:
    try:
        raw = OmegaConf.load(io.StringIO(read_yaml_text(path)))
    except Exception as error:  # PyYAML raises whatever a conversion does, and OmegaConf what its grammar does
        raise RequestError(f"{path}: not a readable config: {first_line(error)}") from error
    if not isinstance(raw, DictConfig):
        raise RequestError(f"{path}: not a config: expected keys and values")
    return raw


def check_keys(config: DictConfig) -> None:
    """Refuse a composed configuration that has other keys than its schema, by ``+key=...`` or ``~key``.

    A run of it could not be done, or not be done again: ``load_saved`` gives what it reads the schema. What a group's
    option holds is for whoever is called with it to refuse.

    Raises:
        RequestError: names the key.
    """
    plain = OmegaConf.to_container(config)
    try:
        whole = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), OmegaConf.create(plain))
    except SCHEMA_ERRORS as error:
        raise RequestError(f"{first_line(error)}; a run has no keys but those of `cifar-exp --cfg job`") from error
    there, wanted = flatten(plain), flatten(OmegaConf.to_container(whole))
    missing = [key for key in wanted if key not in there and not any(name.startswith(f"{key}.") for name in there)]
    if missing:
        raise RequestError(f"~{missing[0]}: is needed; it can be given another value, but not be removed")


def with_schema(raw: DictConfig) -> DictConfig:
    """Give a plain configuration the schema that a composed one has.

    Raises:
        SCHEMA_ERRORS: an unknown key or a wrong type.
    """
    return cast(DictConfig, OmegaConf.merge(OmegaConf.structured(ExperimentConfig), _with_group_schemas(raw)))


def _with_group_schemas(raw: DictConfig) -> DictConfig:
    """Give each group's node the schema that belongs to its ``_target_`` (those of a user's own have none)."""
    typed = raw.copy()
    for group in GROUPS:
        node = raw.get(group)
        schema = TARGET_SCHEMAS.get(str(node.get("_target_"))) if isinstance(node, DictConfig) else None
        if schema is not None:
            typed[group] = OmegaConf.merge(OmegaConf.structured(schema), node)
    return typed


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key, in order. Lists of plain values are leaves; an empty mapping has none.

    >>> flatten({"data": {"root": None, "sizes": [1, 2]}})
    {'data.root': None, 'data.sizes': [1, 2]}
    """
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


def config_hash(config: dict[str, Any]) -> str:
    """SHA-256 (hexadecimal) of a resolved configuration. The order of keys counts: transforms are applied in it."""
    return hashlib.sha256(json.dumps(config).encode()).hexdigest()


def to_yaml(config: dict[str, Any]) -> str:
    """The configuration as YAML text that ``load_saved`` reads back to equal values."""
    return OmegaConf.to_yaml(OmegaConf.create(config))


def first_line(error: Exception) -> str:
    """An OmegaConf error's message on one line, with the key that it is about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    key = next((line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")), None)
    return f"{key}: {lines[0]}" if key and key not in lines[0] else lines[0]
