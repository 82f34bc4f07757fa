"""A sweep's record, ``sweep.json``: its overrides and its jobs, for ``resume`` and for the table of results.

A record may come from a stranger: ``Record.read`` checks its form, ``is_allowed`` each override.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import HydraException

from cifar_exp.config.overrides import quoted
from cifar_exp.config.parse import flatten
from cifar_exp.config.resolved import PATHS
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.config.trusted_settings import check_group_choices, is_protected
from cifar_exp.errors import RequestError
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.untrusted import read_json
from cifar_exp.sweeps import RECORD
from cifar_exp.sweeps.grid import MOST_JOBS, Request, Sweep
from cifar_exp.trackers import mlflow

# Groups of Hydra's that a record may set: the names of installed launchers and sweepers.
_ENGINES = ("hydra/launcher", "hydra/sweeper")
_LONGEST_KEY = 200  # characters
_RESOLVER = re.compile(r"\$\{[^{}$]*:")  # such as ${oc.env:NAME}


def write_record(sweep: Sweep, request: Request) -> None:
    """Write the record of a sweep; a search adds its jobs as it chooses them."""
    config = sweep.jobs[0].config
    jobs = [
        {
            "job": job.number,
            "run": os.path.relpath(job.directory, sweep.directory),
            "overrides": job.overrides,
            "arguments": [fixed(argument, job.config) for argument in job.arguments],
        }
        for job in ([] if sweep.is_search else sweep.jobs)
    ]
    record = {
        "overrides": [fixed(override, config) for override in request.overrides],
        "config_name": request.config_name,
        "config_dir": request.config_dir,
        "jobs": jobs,
    }
    atomic.write_json(sweep.directory / RECORD, record)


def fixed(argument: str, config: ExperimentConfig) -> str:
    """A user's override of ``config`` with the value that environment and current folder give it now."""
    written_key, _, text = argument.partition("=")
    key = written_key.lstrip("+~")
    value = flatten(config).get(key) if key in PATHS or _RESOLVER.search(text) else None
    if isinstance(value, str) and "${" not in value:
        return f"{written_key}={quoted(value)}"
    return f"{written_key}={json.dumps(value)}" if isinstance(value, bool | int | float) else argument


@dataclass(frozen=True)
class Record:
    """The content of a ``sweep.json``."""

    overrides: list[str]  # of the whole sweep
    config_name: str  # the primary config
    config_dir: bool  # whether the user had a folder with config options
    folder: str  # where relative paths start, in a record of version 0.1.0
    jobs: list[list[str]] | None  # overrides of each job; None for a search and for a record of version 0.1.0
    directories: list[str] | None  # of the jobs; None as for ``jobs``

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Read the file.

        Raises:
            RequestError: it is damaged.
        """
        try:
            content = read_json(path)
            jobs = content["jobs"] if all("arguments" in job for job in content["jobs"]) else []
            if len(jobs) > MOST_JOBS:
                raise ValueError(f"more than {MOST_JOBS:,} jobs")
            return cls(
                overrides=[str(text) for text in content["overrides"]],
                config_name=str(content["config_name"]),
                config_dir=bool(content.get("config_dir")),
                folder=str(content.get("folder", "")),
                jobs=[[str(text) for text in job["arguments"]] for job in jobs] or None,
                directories=[str(job["run"]) for job in jobs] or None,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(f"{path}: cannot be read: {error}") from error

    def every_override(self) -> list[str]:
        """The different overrides of the sweep and of its jobs."""
        return list(dict.fromkeys([*self.overrides, *(text for job in self.jobs or [] for text in job)]))


def is_allowed(text: str, folder: str, loader: ConfigLoader) -> bool:
    """Whether ``resume`` uses an override of a record again.

    A record may set values of the experiment and choose among installed options. Flags, resolvers such as
    ``${oc.env:NAME}``, and anything that names code, a command, a YAML file or an output folder are left to the user.
    """
    if text.startswith("-") or ":" in text.partition("${")[2] or len(text.partition("=")[0]) > _LONGEST_KEY:
        return False
    try:
        override = OverridesParser.create(config_loader=loader).parse_override(text)
        check_group_choices([override], loader)
    except (HydraException, RequestError):
        return False
    key, value = override.key_or_group, override.value()
    if key == "hydra.sweep.subdir":  # the job directories are checked afterwards
        return isinstance(value, str)
    protected = is_protected(key) and key not in _ENGINES
    if protected or override.package is not None or key.startswith(("data.cache", "sweep")):
        return False
    if key == "tracker.store":  # must exist already
        return mlflow.is_store(Path(folder, str(value)))
    options = loader.get_group_options(key)
    if not options:
        return "/" not in key
    if isinstance(value, dict):  # a whole node could set the keys that are refused above
        return key not in ("data", "tracker", *_ENGINES)
    return value is None or all(name in options for name in _option_names(value))


def _option_names(value: Any) -> Sequence[str]:
    """The names of options in the value of a group's override."""
    if isinstance(value, ChoiceSweep | list):
        values = value.list if isinstance(value, ChoiceSweep) else value
        return [name for one in values for name in _option_names(one)]
    return [str(getattr(value, "text", value))]  # Hydra's QuotedString has a text
