"""Going on from where an interrupted run or sweep stopped."""

import logging
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

from cifar_exp.cli.hydra_app import run_sweep
from cifar_exp.config.compose import composition
from cifar_exp.config.overrides import quoted
from cifar_exp.config.trusted_settings import check_group_choices, is_hydras_own
from cifar_exp.errors import DONE, FAILED, RequestError
from cifar_exp.run_dir import run_status
from cifar_exp.run_dir.saved_run import is_mlflow_store, open_run
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.untrusted import refuse_irregular
from cifar_exp.sweeps import RECORD
from cifar_exp.sweeps.grid import MOST_JOBS, Request
from cifar_exp.sweeps.job import run_job

log = logging.getLogger(__name__)

# Groups of Hydra's own that a sweep's record may choose from: names among installed options, which run nothing else.
_ENGINES = ("hydra/launcher", "hydra/sweeper")
_PER_SESSION = ("hydra.sweep.dir=", "hydra.mode=", "sweep")  # never taken from a record, and not missed
_MOST_SHOWN = 80  # of what is ignored, and characters of each
_LONGEST_KEY = 200  # characters


def resume(path: Path, settings: Sequence[str], *, trust: Sequence[str], config_dir: str | None) -> int:
    """Go on; returns the exit code.

    Args:
        path: directory of a run or a sweep.
        settings: overrides of a sweep: Hydra's own, and ``sweep.``; of a run: ``explain.images``.
        trust: packages of the user's own that the runs may call.
        config_dir: the user's own options that the sweep was composed with.

    Raises:
        RequestError: there is nothing to go on with, or not in the way that was asked for.
    """
    if (path / RECORD).is_file():
        return _resume_sweep(path, settings, trust, config_dir)
    if not (path / "status.json").is_file() and path.is_dir():
        inside = sorted(found.parent.name for found in path.glob(f"*/{RECORD}"))
        hint = f"; there is a sweep in it: {inside[0]}" if inside else ""
        raise RequestError(f"{path}: neither a run nor a sweep: it has no status.json and no {RECORD}{hint}")
    return _resume_run(path, settings, trust)


def _resume_run(path: Path, settings: Sequence[str], trust: Sequence[str]) -> int:
    saved = open_run(path, trust=trust, completed=False)
    for setting in settings:
        key, _, value = setting.partition("=")
        if key == "explain.images" and value.isdecimal():  # changes no number of the training or the evaluation
            saved.config.explain.images = int(value)
            continue
        reason = (
            f"the schedule was planned for {saved.config.epochs}"
            if key == "epochs"
            else "a run goes on with the config that it started with"
        )
        raise RequestError(f"{setting}: {reason}; start a new run with it (`cifar-exp {setting} ...`)")
    if saved.edited:
        raise RequestError(
            f"{path / 'config_resolved.yaml'}: was edited since the run started; a changed config (more epochs, too, "
            "for which the schedule was not planned) is a new run"
        )
    state = run_status.job_state(path)
    if state == "running":
        raise RequestError(f"{path}: a run is going on there; wait for it or stop it first")
    if state == "completed":
        log.info("%s is complete; there is nothing left to do.", path)
        return DONE
    if state == "diverged":
        log.info("%s: %s", path, run_status.read_status(path)["error"])
        log.info("It would diverge again at the same step: the run is a function of its config.")
        return FAILED
    log.info("%s: %s.", path, "failed before its first step" if state is None else state)
    return run_job(saved.config, path, resume=True)[0]


def _resume_sweep(path: Path, settings: Sequence[str], trust: Sequence[str], config_dir: str | None) -> int:
    """Run the recorded jobs again; those that are done return at once."""
    refuse_irregular(path)  # whoever made the sweep does not say where this program writes
    for setting in settings:
        if not setting.startswith(("hydra", "sweep.")):
            raise RequestError(f"{setting}: the jobs of a sweep stay what they are; start a new sweep with it")
    record = _Record.read(path / RECORD)
    if record.config_dir and not config_dir:
        raise RequestError(f"{path}: was composed with options in a folder of its own; give its --config-dir again")
    config_dir = os.path.abspath(config_dir) if config_dir else None
    if record.config_name != "config" and not (
        re.fullmatch(r"[\w-]+", record.config_name) and Path(config_dir or "", f"{record.config_name}.yaml").is_file()
    ):
        raise RequestError(f"{path / RECORD}: config_name {record.config_name!r}: no such config in --config-dir")
    own = [f"hydra.sweep.dir={quoted(str(path.absolute()))}", *settings]
    if trust:
        own.append(f"trust=[{','.join(trust)}]")
    with composition(config_dir) as loader:
        everything = dict.fromkeys([*record.overrides, *(text for job in record.jobs or [] for text in job)])
        kept = {text for text in everything if _is_allowed(text, record.folder, loader)}
    dropped = [text for text in everything if text not in kept and not text.startswith(_PER_SESSION)]
    if dropped:
        log.info(
            "Ignored from the sweep's record; set them again if needed: %s",
            " ".join(text[:_MOST_SHOWN] for text in dropped[:_MOST_SHOWN]),
        )
    overrides = [text for text in record.overrides if text in kept]
    jobs = record.jobs and [[text for text in job if text in kept] for job in record.jobs]
    if jobs:
        overrides = [text for text in overrides if text.startswith("hydra")]
    return run_sweep(Request([*overrides, *own], record.config_name, config_dir, jobs, record.directories))


@dataclass(frozen=True)
class _Record:
    """A ``sweep.json``, which may be a stranger's.

    Attributes:
        overrides: of the whole sweep.
        config_name: the primary config.
        config_dir: whether the user had a folder of options.
        folder: where relative paths started from, in a record of version 0.1.0.
        jobs: overrides of each job; None for a search and for a record of version 0.1.0.
        directories: of the jobs; None as for ``jobs``.
    """

    overrides: list[str]
    config_name: str
    config_dir: bool
    folder: str
    jobs: list[list[str]] | None
    directories: list[str] | None

    @classmethod
    def read(cls, path: Path) -> "_Record":
        """Read the file.

        Raises:
            RequestError: it is damaged.
        """
        try:
            content = atomic.read_json(path)
            jobs, directories = None, None
            if all("arguments" in job for job in content["jobs"]):
                jobs = [[str(text) for text in job["arguments"]] for job in content["jobs"]] or None
                directories = [str(job["run"]) for job in content["jobs"]] or None
            if jobs and len(jobs) > MOST_JOBS:
                raise ValueError(f"more than {MOST_JOBS:,} jobs")
            return cls(
                overrides=[str(text) for text in content["overrides"]],
                config_name=str(content["config_name"]),
                config_dir=bool(content.get("config_dir")),
                folder=str(content.get("folder", "")),
                jobs=jobs,
                directories=directories,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(f"{path}: cannot be read: {error}") from error


def _is_allowed(text: str, folder: str, loader: ConfigLoader) -> bool:
    """Whether an override of a record is used again.

    The record may be someone else's: it decides values of the experiment and the names of options that exist here.
    Flags, resolvers such as ``${oc.env:NAME}``, and what could name code, a command, a file of YAML or a place to write
    to are for whoever resumes to set.
    """
    if text.startswith("-") or ":" in text.partition("${")[2] or len(text.partition("=")[0]) > _LONGEST_KEY:
        return False
    try:
        override = OverridesParser.create(config_loader=loader).parse_override(text)
        check_group_choices([override], loader)
    except (HydraException, RequestError):
        return False
    key, value = override.key_or_group, override.value()
    if key == "hydra.sweep.subdir":  # the directories that it leads to are checked
        return isinstance(value, str)
    if (
        override.package is not None
        or key.startswith(("data.cache", "sweep"))
        or (is_hydras_own(key) and key not in _ENGINES)
    ):
        return False
    if key == "tracker.store":  # an earlier job has made it, or whoever resumes has
        return is_mlflow_store(Path(folder, str(value)))
    options = loader.get_group_options(key)
    if not options:
        return "/" not in key
    if isinstance(value, dict):  # a whole node would carry the keys that are otherwise checked one by one
        return key not in ("data", "tracker", *_ENGINES)
    return value is None or all(name in options for name in _names(value))


def _names(value: Any) -> list[str]:
    """The options that the value of a group's override names."""
    values = value.list if isinstance(value, ChoiceSweep) else value if isinstance(value, list) else [value]
    return [
        name for one in values for name in (_names(one) if isinstance(one, list) else [str(getattr(one, "text", one))])
    ]
