"""Going on from where an interrupted run or sweep stopped."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from cifar_exp.cli.hydra_app import experiment, quoted
from cifar_exp.config.trusted_settings import is_hydras_own
from cifar_exp.errors import DONE, FAILED, RequestError
from cifar_exp.run_dir import lifecycle, run_status
from cifar_exp.run_dir.saved_run import open_run
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.untrusted import refuse_irregular
from cifar_exp.sweeps.job import run_job
from cifar_exp.sweeps.ledger import RECORD
from cifar_exp.trackers import is_store

log = logging.getLogger(__name__)

# Choices of Hydra's own that a sweep's record may make: names among installed options, which run nothing else.
_ENGINES = ("hydra/launcher=", "hydra/sweeper=")


def resume(path: Path, settings: Sequence[str], *, trust: Sequence[str], config_dir: str | None) -> int:
    """Go on; returns the exit code.

    Args:
        path: directory of a run or a sweep.
        settings: overrides of a sweep: Hydra's own, and ``sweep.``.
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
    if settings:
        setting, key = settings[0], settings[0].partition("=")[0]
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
    state = lifecycle.job_state(path)
    if state == "running":
        raise RequestError(f"{path}: a run is going on there; wait for it or stop it first")
    if state == "completed":
        log.info("%s is complete; there is nothing left to do.", path)
        return DONE
    if state == "diverged":
        log.info("%s: %s", path, run_status.read_status(path)["error"])
        log.info("It would diverge again at the same step: the run is a function of its config.")
        return FAILED
    log.info("%s was %s.", path, "without a step" if state is None else state)
    return run_job(saved.config, path, resume=True)[0]


def _resume_sweep(path: Path, settings: Sequence[str], trust: Sequence[str], config_dir: str | None) -> int:
    """Give the sweep's command line again; jobs that are done return at once."""
    refuse_irregular(path)  # whoever made the sweep does not say where this program writes
    try:
        record = atomic.read_json(path / RECORD)
        given = [str(override) for override in record["overrides"]]
        name, folder = str(record["config_name"]), str(record["folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path / RECORD}: cannot be read: {error}") from error
    for setting in settings:
        if not setting.startswith(("hydra", "sweep.")):
            raise RequestError(f"{setting}: the jobs of a sweep stay what they are; start a new sweep with it")
    if record.get("config_dir") and not config_dir:
        raise RequestError(f"{path}: was composed with options in a folder of its own; give its --config-dir again")
    own = [f"hydra.sweep.dir={quoted(path.absolute())}"]
    if trust:
        own.append(f"trust=[{','.join(trust)}]")
    own += settings
    if config_dir:
        own += ["--config-dir", os.path.abspath(config_dir)]
    kept, dropped = _allowed(given, folder)
    if dropped:
        log.info("Not taken from the sweep's record, give them again where they matter: %s", " ".join(dropped))
    if os.path.isdir(folder):
        os.chdir(folder)  # relative paths in the jobs' configs start from there
    return experiment(["-m", f"--config-name={name}", *kept, *own])


def _allowed(overrides: list[str], folder: str) -> tuple[list[str], list[str]]:
    """What of a record's overrides may be given again, and what may not.

    The record may be someone else's: what could name code or a command to run, or where this program writes, is
    for whoever resumes to say.
    """
    kept, dropped = [], []
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        refused = is_hydras_own(key) or key == "data.cache" or _is_more_than_a_value(override)
        if key == "tracker.store":  # an earlier job has made it, or whoever resumes has
            refused = refused or not is_store(Path(folder, override.partition("=")[2].strip("'\"")))
        if key == "hydra.sweep.dir" or key.startswith("sweep."):
            continue
        if refused and not override.startswith(_ENGINES):
            dropped.append(override)
        else:
            kept.append(override)
    return kept, dropped


def _is_more_than_a_value(text: str) -> bool:
    """Whether it is a flag, puts a group elsewhere, reads the environment, or sets a whole node with what is in it."""
    if text.startswith("-") or ":" in text.partition("${")[2]:  # a resolver, such as ${oc.env:NAME}
        return True
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        return True
    # A whole node at once would carry the keys that are otherwise looked at one by one.
    return override.package is not None or (override.key_or_group in ("data", "tracker") and "{" in text)
