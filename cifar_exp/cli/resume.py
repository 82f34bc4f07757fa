"""``cifar-exp resume RUN_OR_SWEEP``: continue an interrupted run or sweep."""

import argparse
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cifar_exp import trackers
from cifar_exp.cli.hydra_app import run_sweep
from cifar_exp.config.compose import composition
from cifar_exp.config.overrides import quoted
from cifar_exp.config.parse import changed
from cifar_exp.errors import DONE, FAILED, RequestError
from cifar_exp.run_dir import run_status
from cifar_exp.run_dir.saved_run import open_run
from cifar_exp.safe_io.untrusted import refuse_irregular
from cifar_exp.sweeps import RECORD
from cifar_exp.sweeps.grid import Request
from cifar_exp.sweeps.job import run_job
from cifar_exp.sweeps.record import Record, is_allowed

log = logging.getLogger(__name__)

_PER_SESSION = ("hydra.sweep.dir=", "hydra.mode=", "sweep")  # never used from a record, so not reported as ignored
_MOST_SHOWN = 80  # ignored overrides, and characters of each


def main(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code.

    A sweep takes Hydra's own settings and ``sweep.KEY``; a run takes ``explain.images``.
    """
    path = options.path
    if (path / RECORD).is_file():
        return _resume_sweep(path, options.overrides, options.trust, options.config_dir)
    if not (path / "status.json").is_file() and path.is_dir():
        inside = sorted(found.parent.name for found in path.glob(f"*/{RECORD}"))
        hint = f"; it contains a sweep: {inside[0]}" if inside else ""
        raise RequestError(f"{path}: neither a run nor a sweep (no status.json and no {RECORD}){hint}")
    return _resume_run(path, options.overrides, options.trust)


def _resume_run(path: Path, overrides: Sequence[str], trust: Sequence[str]) -> int:
    saved = open_run(path, trust=trust, completed=False, keeps_tracker=trackers.has_store)
    config = saved.config
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "explain.images":  # affects neither training nor evaluation
            config = changed(config, {key: value})
            continue
        reason = "a run is resumed with the config that it started with"
        if key == "epochs":
            reason = f"the schedule was planned for {config.epochs}"
        raise RequestError(f"{override}: {reason}; start a new run with it (`cifar-exp {override} ...`)")
    if saved.edited:
        raise RequestError(
            f"{path / 'config_resolved.yaml'}: was edited since the run started; a changed config needs a new run "
            "(more epochs, too: the schedule was not planned for them)"
        )
    state = run_status.job_state(path)
    if state == "running":
        raise RequestError(f"{path}: the run is still running; wait for it or stop it first")
    if state == "completed":
        log.info("%s is completed; nothing left to do.", path)
        return DONE
    if state == "diverged":
        log.info("%s: %s", path, run_status.read_status(path)["error"])
        log.info("The run is deterministic and would diverge again at the same step.")
        return FAILED
    log.info("%s: %s.", path, "failed before its first step" if state is None else state)
    return run_job(config, path, resume=True)[0]


def _resume_sweep(path: Path, overrides: Sequence[str], trust: Sequence[str], config_dir: str | None) -> int:
    """Start the sweep of a record again; it skips the completed jobs."""
    refuse_irregular(path)  # a stranger's sweep must not lead the program to write elsewhere
    for override in overrides:
        if not override.startswith(("hydra", "sweep.")):
            raise RequestError(f"{override}: cannot be changed when a sweep is resumed; start a new sweep with it")
    record = Record.read(path / RECORD)
    if record.config_dir and not config_dir:
        raise RequestError(f"{path}: the sweep used your own options; give its --config-dir again")
    config_dir = os.path.abspath(config_dir) if config_dir else None
    if record.config_name != "config" and not (
        re.fullmatch(r"[\w-]+", record.config_name) and Path(config_dir or "", f"{record.config_name}.yaml").is_file()
    ):
        raise RequestError(f"{path / RECORD}: config_name {record.config_name!r}: no such config in --config-dir")
    own = [f"hydra.sweep.dir={quoted(str(path.absolute()))}", *overrides]
    if trust:
        own.append(f"trust=[{','.join(trust)}]")
    with composition(config_dir) as loader:
        kept = {text for text in record.every_override() if is_allowed(text, record.folder, loader)}
    ignored = [text for text in record.every_override() if text not in kept and not text.startswith(_PER_SESSION)]
    if ignored:
        log.info(
            "Ignored from the sweep's record; set them again if needed: %s",
            " ".join(text[:_MOST_SHOWN] for text in ignored[:_MOST_SHOWN]),
        )
    jobs = record.jobs and [[text for text in job if text in kept] for job in record.jobs]
    recorded = [text for text in record.overrides if text in kept and (not jobs or text.startswith("hydra"))]
    return run_sweep(Request([*recorded, *own], record.config_name, config_dir, jobs, record.directories))
