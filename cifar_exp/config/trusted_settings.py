"""What a file of the user's own folder must not decide: Hydra's settings, and who is trusted.

Hydra calls what its own settings name (callbacks, logging), sets environment variables and writes where they say. A
folder given by ``--config-dir`` can come from someone else, so these settings count only as shipped or as typed in.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import ChoiceSweep, Override
from omegaconf import DictConfig, OmegaConf

from cifar_exp.config.parse import flatten
from cifar_exp.errors import RequestError

# They record what was chosen and have no effect; of hydra.job, these have one.
_RECORDS = ("hydra.overrides.", "hydra.runtime.", "hydra.job.", "hydra.searchpath", "hydra.mode")
_EFFECTS = ("hydra.job.env_", "hydra.job.chdir")
_GRID = "hydra.sweeper.params."
_OWN_OPTIONS = "--config-dir DIR adds options of your own"


def may_be_overruled(overrides: list[Override], config_name: str, config_dir: str | None) -> bool:
    """Whether files other than the shipped ones have a part in the composition."""
    return bool(config_dir) or config_name != "config" or any(o.key_or_group == "hydra.searchpath" for o in overrides)


def typed_in(overrides: list[Override]) -> list[str]:
    """The overrides of Hydra's own settings."""
    return [
        override.input_line or ""
        for override in overrides
        if is_hydras_own(override.key_or_group) and override.key_or_group != "hydra.searchpath"
    ]


def check_group_choices(overrides: Sequence[Override], loader: ConfigLoader) -> None:
    """Refuse overrides that choose a group's option by a path: Hydra would read YAML outside of the config folders.

    Raises:
        RequestError: names the override.
    """
    for override in overrides:
        key, value = override.key_or_group, override.value()
        values = value if isinstance(value, list) else value.list if isinstance(value, ChoiceSweep) else [value]
        if is_path(key) or (any(map(is_path, values)) and loader.get_group_options(key)):
            raise RequestError(f"{override.input_line}: must be the name of an option, not a path; {_OWN_OPTIONS}")


def check_choices(choices: Mapping[Any, Any]) -> None:
    """Refuse a composition whose files choose a group's option by a path.

    Args:
        choices: Hydra's, by group.

    Raises:
        RequestError: names the first such choice.
    """
    for group, choice in choices.items():
        if is_path(group) or is_path(choice):
            raise RequestError(f"{group}={choice}: must be the name of an option, not a path; {_OWN_OPTIONS}")


def is_path(name: Any) -> bool:
    """Whether a config's name leads out of its folder, or would if it were read as a path; of a list, any one."""
    if isinstance(name, list):
        return any(map(is_path, name))
    text = str(getattr(name, "text", name))  # Hydra's QuotedString has a text
    return text.startswith(("/", "\\")) or ".." in text.replace("\\", "/").split("/") or "://" in text


def check_hydra_settings(config: DictConfig, shipped: DictConfig, overrides: list[Override]) -> None:
    """Refuse a composition in which a file of the user's set what only the command line may.

    Args:
        config: as composed, with its ``hydra`` node.
        shipped: composed of the shipped files and the overrides that are ``typed_in``.
        overrides: the command line's.

    Raises:
        RequestError: names the first such key.
    """
    if config.get("trust") and not any(override.key_or_group == "trust" for override in overrides):
        packages = ",".join(map(str, config.trust))
        raise RequestError(
            f"trust=[{packages}]: is set by a file; only the command line lets a package in: 'trust=[{packages}]'"
        )
    now, expected = _settings(config), _settings(shipped)
    for key in sorted(now.keys() | expected.keys()):
        of_the_grid = key.startswith(_GRID) and not is_hydras_own(key.removeprefix(_GRID).lstrip("+~"))
        if now.get(key) != expected.get(key) and not of_the_grid:
            raise RequestError(
                f"{key}={now.get(key)}: is set by a file of yours, and Hydra's own settings are taken from the command "
                f"line only: {key}=..."
            )


def is_hydras_own(key: str) -> bool:
    """Whether an override's key is of Hydra's own settings, or says who is trusted."""
    return key.split(".")[0].split("/")[0].split("@")[0] in ("hydra", "trust")


def _settings(config: DictConfig) -> dict[str, Any]:
    """Hydra's settings that have an effect, by dotted key, with interpolations as they are written."""
    leaves = flatten({"hydra": OmegaConf.to_container(config.hydra)})
    return {key: value for key, value in leaves.items() if not key.startswith(_RECORDS) or key.startswith(_EFFECTS)}
