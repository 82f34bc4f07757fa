"""A composed or saved configuration: validated, resolved to plain values, flattened, hashed.

Leaves out Hydra's runtime on purpose: everything here works on a configuration from any source.
"""

import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifar_exp.config.aliases import with_current_targets
from cifar_exp.config.parse import BY_TARGET, flatten, parse, plain
from cifar_exp.config.removed_keys import drop_removed_keys
from cifar_exp.config.schema import ExperimentConfig, group_schema
from cifar_exp.config.suggestions import suggest_key
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.untrusted import displayable, read_yaml_text

# What giving a configuration its schema can raise; the second, for a whole number that no float can hold.
SCHEMA_ERRORS = (OmegaConfBaseException, OverflowError)
PATHS = ("data.root", "data.cache", "tracker.store")


def resolve(config: DictConfig, base: str = "") -> ExperimentConfig:
    """Turn a composed configuration into a typed, checked one: no interpolation left, paths absolute.

    Args:
        config: as composed.
        base: folder that relative paths start from; the current one if empty.

    Raises:
        RequestError: a value is missing or wrong, or an interpolation cannot be resolved.
    """
    try:
        values = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise RequestError(first_line(error)) from error
    return parse(_as_text(_with_absolute_paths(values, base), ""))


def _with_absolute_paths(values: dict[str, Any], base: str) -> dict[str, Any]:
    """The same values with absolute paths, so that the saved config means the same from another current folder."""
    for key in PATHS:
        group, leaf = key.split(".")
        node = values.get(group)
        if isinstance(node, dict) and node.get(leaf) is not None:
            node[leaf] = _absolute(node[leaf], key, base)
    return values


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


def validate(config: ExperimentConfig) -> None:
    """Check again a config that may have been changed since it was parsed.

    Raises:
        RequestError: one line for each wrong value: what it is, what is allowed.
    """
    parse(plain(config))


def load_saved(path: Path, trust: Sequence[str] = ()) -> ExperimentConfig:
    """Read a saved ``config_resolved.yaml``, typed and validated as if it had been typed in.

    The file is untrusted: it is parsed by YAML's safe loader, interpolations are refused, and only allowed
    ``_target_``s pass. What it says about ``trust`` is dropped: only whoever runs it can let a package in.

    Args:
        path: of the file.
        trust: packages that the user lets in.

    Raises:
        RequestError: the file is missing, is not a configuration, or holds what is not allowed.
    """
    saved = _read_yaml(path)
    interpolated = [key for key, value in flatten(saved).items() if "${" in str(value)]
    if interpolated:
        raise RequestError(f"{path}: {interpolated[0]} holds an interpolation; a saved config has none")
    saved["trust"] = list(trust)
    try:
        drop_removed_keys(saved)
        return parse(_as_text(_with_absolute_paths(saved, ""), ""))
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error


def saved_hash(path: Path) -> str:
    """``config_hash`` of a saved file as it stands, to be held against the one that its run recorded."""
    return config_hash(_read_yaml(path))


def read_plain(path: Path) -> dict[str, Any]:
    """A saved config as plain containers, to be shown: not checked, nothing filled in, interpolations left as text.

    Raises:
        RequestError: the file cannot be read or is not a configuration.
    """
    return cast("dict[str, Any]", with_current_targets(_read_yaml(path)))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = OmegaConf.load(io.StringIO(read_yaml_text(path)))
    except Exception as error:  # PyYAML raises whatever a conversion does, and OmegaConf what its grammar does
        raise RequestError(f"{path}: not a readable config: {first_line(error)}") from error
    if not isinstance(raw, DictConfig):
        raise RequestError(f"{path}: not a config: expected keys and values")
    return cast("dict[str, Any]", OmegaConf.to_container(raw))


def check_keys(config: DictConfig) -> None:
    """Refuse a composed configuration that has other keys than its schema, by ``+key=...`` or ``~key``.

    A run of it could not be done, or not be done again: ``load_saved`` gives what it reads the schema. What a group's
    option holds is for whoever is called with it to refuse.

    Raises:
        RequestError: names the key.
    """
    composed = OmegaConf.to_container(config)
    try:
        whole = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), OmegaConf.create(composed))
    except SCHEMA_ERRORS as error:
        unknown = re.search(r"Key '([^']+)' not in", str(error))
        hint = suggest_key(unknown[1], [key for key in flatten(composed) if key != unknown[1]]) if unknown else ""
        raise RequestError(
            f"{first_line(error)}{hint}; a run has no keys but those of `cifar-exp --cfg job`"
        ) from error
    there, wanted = flatten(composed), flatten(OmegaConf.to_container(whole))
    missing = [key for key in wanted if key not in there and not any(name.startswith(f"{key}.") for name in there)]
    if missing:
        raise RequestError(f"~{missing[0]}: is needed; it can be given another value, but not be removed")


def with_schema(config: ExperimentConfig) -> DictConfig:
    """A config as OmegaConf composes one, so that an override of the wrong type is refused.

    Raises:
        SCHEMA_ERRORS: a value that OmegaConf does not take.
    """
    whole = OmegaConf.create(plain(config))
    for group in BY_TARGET:
        schema = group_schema(group, whole[group].get("_target_"))
        if schema is not None:
            whole[group] = OmegaConf.merge(OmegaConf.structured(schema), whole[group])
    return cast(DictConfig, OmegaConf.merge(OmegaConf.structured(ExperimentConfig), whole))


def config_hash(config: ExperimentConfig | dict[str, Any]) -> str:
    """SHA-256 (hexadecimal) of a resolved configuration, without the user's note and tags.

    The order of keys counts: transforms are applied in it.
    """
    counted = {key: value for key, value in plain(config).items() if key not in ("note", "tags")}
    return hashlib.sha256(json.dumps(counted).encode()).hexdigest()


def to_yaml(config: ExperimentConfig | dict[str, Any]) -> str:
    """The configuration as YAML text that ``load_saved`` reads back to equal values."""
    return OmegaConf.to_yaml(OmegaConf.create(plain(config)))


def first_line(error: Exception) -> str:
    """An OmegaConf error's message on one line, with the key that it is about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    key = next((line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")), None)
    return f"{key}: {lines[0]}" if key and key not in lines[0] else lines[0]
