"""A composed or saved configuration: validated, resolved to plain values, flattened, hashed.

Leaves out Hydra's runtime on purpose: everything here works on a configuration from any source.
"""

import hashlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifar_exp.config.removed_keys import drop_removed_keys
from cifar_exp.config.schema import TARGET_SCHEMAS, ExperimentConfig
from cifar_exp.config.targets import check_targets
from cifar_exp.config.values import wrong_values
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.untrusted import displayable, read_yaml_text

GROUPS = ("model", "data", "augment", "optimizer", "scheduler")
# What giving a configuration its schema can raise; the second, for a whole number that no float can hold.
SCHEMA_ERRORS = (OmegaConfBaseException, OverflowError)
PATHS = ("data.root", "data.cache", "tracker.store")


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
    for key in PATHS:
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
    return displayable(node) if isinstance(node, str) and path not in PATHS else node


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
    if problems := wrong_values(config, flatten(config)):
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
        drop_removed_keys(raw)
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
