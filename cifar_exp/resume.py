"""``cifar-exp resume RUN_OR_SWEEP``: go on from where an interrupted run or sweep stopped."""

import argparse
import logging
import os
from pathlib import Path

from cifar_exp import atomic_files, lifecycle, run_status
from cifar_exp.errors import DONE, FAILED, RequestError
from cifar_exp.jobs import run_job
from cifar_exp.launch import experiment, quoted
from cifar_exp.logs import log_to_console
from cifar_exp.saved_run import open_run
from cifar_exp.sweep import RECORD
from cifar_exp.tracking import is_store
from cifar_exp.untrusted import refuse_links

log = logging.getLogger(__name__)

# Choices of Hydra's own that a sweep's record may make: names among installed options, which run nothing else.
_ENGINES = ("hydra/launcher=", "hydra/sweeper=")


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="cifar-exp resume",
        description="Go on with an interrupted or failed run from its last checkpoint; the result is that of a run "
        "that never stopped. Of a sweep, skip the jobs that are done and do the rest.",
        epilog="A sweep's settings of Hydra (hydra.launcher.KEY=..., --config-dir) and trust=... are given again.",
    )
    parser.add_argument("path", metavar="RUN_OR_SWEEP", type=Path, help="its directory")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="let the run call a package of yours"
    )
    parser.add_argument("--config-dir", metavar="DIR", help="options of your own that the sweep was composed with")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="of a sweep: Hydra's, and sweep.fail_fast")
    options = parser.parse_args(arguments)
    log_to_console()
    path: Path = options.path
    if (path / RECORD).is_file():
        return _resume_sweep(path, options)
    if not (path / "status.json").is_file() and path.is_dir():
        inside = sorted(found.parent.name for found in path.glob(f"*/{RECORD}"))
        hint = f"; there is a sweep in it: {inside[0]}" if inside else ""
        raise RequestError(f"{path}: neither a run nor a sweep: it has no status.json and no {RECORD}{hint}")
    return _resume_run(path, options)


def _resume_run(path: Path, options: argparse.Namespace) -> int:
    saved = open_run(path, trust=options.trust, completed=False)
    for setting in options.settings:
        key = setting.partition("=")[0]
        reason = (
            f"the schedule was planned for {saved.config['epochs']}"
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


def _resume_sweep(path: Path, options: argparse.Namespace) -> int:
    """Give the sweep's command line again; jobs that are done return at once."""
    refuse_links(path)  # whoever made the sweep does not say where this program writes
    try:
        record = atomic_files.read_json(path / RECORD)
        given = [str(override) for override in record["overrides"]]
        name, folder = str(record["config_name"]), str(record["folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path / RECORD}: cannot be read: {error}") from error
    for setting in options.settings:
        if not setting.startswith(("hydra", "sweep.")):
            raise RequestError(f"{setting}: the jobs of a sweep stay what they are; start a new sweep with it")
    if record.get("config_dir") and not options.config_dir:
        raise RequestError(f"{path}: was composed with options in a folder of its own; give its --config-dir again")
    own = [
        f"hydra.sweep.dir={quoted(path.absolute())}",
        *(f"trust=[{','.join(options.trust)}]" for _ in options.trust[:1]),
        *options.settings,
    ]
    if options.config_dir:
        own += ["--config-dir", os.path.abspath(options.config_dir)]
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
        refused = key.split(".")[0].split("/")[0] == "hydra" or key in ("trust", "data.cache")
        if key == "tracker.store":  # an earlier job has made it, or whoever resumes has
            refused = not is_store(Path(folder, override.partition("=")[2].strip("'\"")))
        if key == "hydra.sweep.dir" or key.startswith("sweep."):
            continue
        if refused and not override.startswith(_ENGINES):
            dropped.append(override)
        else:
            kept.append(override)
    return kept, dropped
