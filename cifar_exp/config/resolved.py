"""A composed or saved configuration: resolved, checked, saved, loaded, hashed. Independent of Hydra's runtime."""

import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifar_exp.config.parse import as_containers, flatten, parse
from cifar_exp.config.schema import ExperimentConfig, group_schema
from cifar_exp.config.version_0_1 import upgraded
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.untrusted import displayable, read_yaml_text

PATHS = ("data.root", "data.csv_file", "data.cache", "model.weights", "tracker.store")


def resolve(config: DictConfig, base: str = "") -> ExperimentConfig:
    """Convert a composed configuration to a typed, checked one, with interpolations resolved and absolute paths.

    Relative paths start at ``base``, or else at the current folder.

    Raises:
        RequestError: a value is missing or wrong, or an interpolation cannot be resolved.
    """
    try:
        values = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise RequestError(first_line(error)) from error
    return parse(_displayable(_with_absolute_paths(values, base)))


def _with_absolute_paths(values: dict[str, Any], base: str = "") -> dict[str, Any]:
    """The same values with absolute paths, so that a saved config does not depend on the current folder."""
    for key in PATHS:
        group, leaf = key.split(".")
        node = values.get(group)
        if not isinstance(node, dict) or not isinstance(node.get(leaf), str | int):  # a folder may be named 2024
            continue
        if key == "model.weights" and group_schema(group, node.get("_target_")) is None:
            continue  # an argument of the user's own network
        try:
            node[leaf] = str(Path(base, Path(str(node[leaf])).expanduser()).absolute())
        except RuntimeError as error:  # the home folder of an unknown user
            raise RequestError(f"{key}={node[leaf]}: not a path: {error}") from error
    return values


def _displayable(node: Any, path: str = "") -> Any:
    """The same containers with displayable texts; a path keeps its bytes, to find the file."""
    if isinstance(node, dict):
        return {key: _displayable(value, f"{path}.{key}".lstrip(".")) for key, value in node.items()}
    if isinstance(node, list):
        return [_displayable(value, path) for value in node]
    return displayable(node) if isinstance(node, str) and path not in PATHS else node


def load_saved(path: Path, trust: Sequence[str] = ()) -> ExperimentConfig:
    """Read a saved ``config_resolved.yaml`` and check it like overrides.

    The file is untrusted: YAML's safe loader parses it, interpolations are refused, and only allowed ``_target_``s
    pass. Its own ``trust`` is ignored: only the user can trust a package.

    Raises:
        RequestError: the file is missing, not a configuration, or contains a value that is not allowed.
    """
    saved = read_plain(path)
    interpolated = [key for key, value in flatten(saved).items() if "${" in str(value)]
    if interpolated:
        raise RequestError(f"{path}: {interpolated[0]} contains an interpolation, which a saved config must not")
    try:
        return parse(_displayable(_with_absolute_paths(upgraded(saved) | {"trust": list(trust)})))
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error


def saved_hash(path: Path) -> str:
    """``config_hash`` of a saved file, to compare with the one that its run recorded."""
    return config_hash(read_plain(path))


def read_plain(path: Path) -> dict[str, Any]:
    """A saved config as plain containers: not checked, no defaults, interpolations as text.

    Raises:
        RequestError: the file cannot be read or is not a configuration.
    """
    try:
        raw = OmegaConf.load(io.StringIO(read_yaml_text(path)))
    except Exception as error:  # PyYAML and OmegaConf raise errors of many types
        raise RequestError(f"{path}: not a readable config: {first_line(error)}") from error
    if not isinstance(raw, DictConfig):
        raise RequestError(f"{path}: not a config: expected keys and values")
    return cast("dict[str, Any]", OmegaConf.to_container(raw))


def config_hash(config: ExperimentConfig | dict[str, Any]) -> str:
    """SHA-256 (hexadecimal) of a resolved configuration, without the user's note and tags.

    Key order matters: it is the order of the transforms.
    """
    counted = {key: value for key, value in as_containers(config).items() if key not in ("note", "tags")}
    return hashlib.sha256(json.dumps(counted).encode()).hexdigest()


def to_yaml(config: ExperimentConfig | dict[str, Any]) -> str:
    """The configuration as YAML text; ``load_saved`` reads it back to equal values."""
    return OmegaConf.to_yaml(OmegaConf.create(as_containers(config)))


def first_line(error: Exception) -> str:
    """The message of an OmegaConf error on one line, with its key."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    key = next((line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")), "")
    if match := re.fullmatch(r"Interpolation key '(.+)' not found", lines[0]):
        return f"{key}: needs {match[1]}, which is not set; set {match[1]} in your file, or {key}=..."
    return f"{key}: {lines[0]}" if key and key not in lines[0] else lines[0]
