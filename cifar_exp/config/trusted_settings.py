"""Settings that a file of the user must not change: Hydra's own, and ``trust``.

Hydra's settings name callables (callbacks, logging), environment variables and output folders. The folder of
``--config-dir`` can come from a stranger, so these settings count only as shipped or as set on the command line.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import ChoiceSweep, Override
from omegaconf import DictConfig, OmegaConf

from cifar_exp.config.parse import flatten
from cifar_exp.errors import RequestError

# Prefixes of settings without an effect: Hydra records choices there. The keys of hydra.job in _EFFECTS have one.
_RECORDS = ("hydra.overrides.", "hydra.runtime.", "hydra.job.", "hydra.searchpath", "hydra.mode")
_EFFECTS = ("hydra.job.env_", "hydra.job.chdir")
_GRID = "hydra.sweeper.params."
_OWN_OPTIONS = "--config-dir DIR adds your own options"


def protected_overrides(overrides: Sequence[Override]) -> list[str]:
    """The overrides that set protected settings, ``hydra.searchpath`` excepted."""
    return [
        override.input_line or ""
        for override in overrides
        if is_protected(override.key_or_group) and override.key_or_group != "hydra.searchpath"
    ]


def check_group_choices(overrides: Sequence[Override], loader: ConfigLoader) -> None:
    """Refuse overrides that choose a group's option by a path: Hydra would read YAML outside the config folders.

    Also refuses ``none`` in a list of options, as in ``tracker=[mlflow,none]``.
    """
    for override in overrides:
        key, value = override.key_or_group, override.value()
        choices = value.list if isinstance(value, ChoiceSweep) else [value]
        is_group = bool(loader.get_group_options(key))
        if is_path(key) or (is_path(choices) and is_group):
            raise RequestError(f"{override.input_line}: must be the name of an option, not a path; {_OWN_OPTIONS}")
        if is_group and any(isinstance(names, list) and len(names) > 1 and "none" in names for names in choices):
            raise RequestError(f"{override.input_line}: none cannot be combined with other options; leave it out")


def check_choices(choices: Mapping[Any, Any]) -> None:
    """Refuse a composition whose files choose a group's option by a path."""
    for group, choice in choices.items():
        if is_path(group) or is_path(choice):
            raise RequestError(f"{group}={choice}: must be the name of an option, not a path; {_OWN_OPTIONS}")


def is_path(name: Any) -> bool:
    """Whether a config's name, or one name of a list, can lead out of the config folder."""
    if isinstance(name, list):
        return any(map(is_path, name))
    text = str(getattr(name, "text", name))  # Hydra's QuotedString has a text
    return text.startswith(("/", "\\")) or ".." in text.replace("\\", "/").split("/") or "://" in text


def check_hydra_settings(config: DictConfig, shipped: DictConfig) -> None:
    """Refuse a composition in which a file of the user changed a protected setting.

    ``shipped`` is composed from the shipped files and the ``protected_overrides``.
    """
    now, expected = _settings(config), _settings(shipped)
    for key in sorted(now.keys() | expected.keys()):
        in_grid = key.startswith(_GRID) and not is_protected(key.removeprefix(_GRID).lstrip("+~"))
        if now.get(key) != expected.get(key) and not in_grid:
            raise RequestError(
                f"{key}={now.get(key)}: set by your file, but only the command line can set it: {key}=..."
            )


def is_protected(key: str) -> bool:
    """Whether an override's key belongs to Hydra's own settings or is ``trust``."""
    return key.split(".")[0].split("/")[0].split("@")[0] in ("hydra", "trust")


def _settings(config: DictConfig) -> dict[str, Any]:
    """The protected settings that have an effect, by dotted key, with unresolved interpolations."""
    leaves = flatten({"hydra": OmegaConf.to_container(config.hydra), "trust": list(config.get("trust") or [])})
    return {key: value for key, value in leaves.items() if not key.startswith(_RECORDS) or key.startswith(_EFFECTS)}
