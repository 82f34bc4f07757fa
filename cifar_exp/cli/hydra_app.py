"""Hydra's side of the command line: composing first, then one run, or a sweep's jobs by whichever launcher.

The only module that knows Hydra's runtime and ``sys.argv``.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

from cifar_exp.compute.distributed import torchrun
from cifar_exp.errors import DONE, FAILED, WRONG_REQUEST, RequestError
from cifar_exp.sweeps.job import run_in_sweep, run_job


def experiment(arguments: list[str]) -> int:
    """One run or a sweep, from Hydra's arguments; returns the exit code.

    Raises:
        RequestError: the request itself is wrong.
    """
    from hydra._internal.utils import get_args_parser

    from cifar_exp.cli.hydra_parser import make_parsable

    make_parsable()
    flags = get_args_parser().parse_args(arguments)
    if flags.experimental_rerun:
        raise RequestError("--experimental-rerun unpickles a file; `cifar-exp reproduce RUN` does not")
    if flags.config_path:
        raise RequestError("--config-path would hide the shipped options; --config-dir adds yours to them")
    if sum(map(bool, (flags.run, flags.multirun, flags.cfg, flags.info, flags.shell_completion))) > 1:
        raise RequestError("only one of --run, -m, --cfg, --info and --shell-completion at a time")
    if flags.help:
        return _help(flags)
    if flags.multirun:
        return _sweep(flags, arguments)
    if flags.hydra_help or flags.info or flags.shell_completion:
        _hand_over(arguments, _sweep_task)
        return DONE
    jobs = _compose(flags)
    if not flags.cfg:
        _check_folder(Path(jobs[0].hydra.run.dir), "hydra.run.dir")
        _check_not_taken(Path(jobs[0].hydra.run.dir))
    codes = [DONE]

    def task(config: Any) -> None:
        resolved, runtime = _resolved(config)
        codes.append(run_job(resolved, Path(runtime.output_dir))[0])

    _hand_over(arguments, task)
    return codes[-1]


def _sweep(flags: Any, arguments: list[str]) -> int:
    from cifar_exp.sweeps import ledger

    torchrun.require_one_process("-m")
    jobs = _compose(flags)
    node = jobs[0].hydra
    sweep_dir = Path(node.sweep.dir)
    _check_folder(sweep_dir, "hydra.sweep.dir")
    # Another sweeper decides about its jobs as it goes.
    known = node.runtime.choices["hydra/sweeper"] == "basic"
    plan = ledger.plan_of(jobs, sweep_dir) if known else []
    ledger.check(plan)
    if jobs[0].sweep.plan:
        from cifar_exp.sweeps.estimate import show_plan

        if not known:
            raise RequestError("sweep.plan=true: only for hydra/sweeper=basic, whose jobs are known beforehand")
        return show_plan(plan, sweep_dir)
    sweep_dir = sweep_dir.absolute()
    asked = {
        "overrides": flags.overrides,
        "config_name": flags.config_name or "config",
        "config_dir": _config_dir(flags),
    }
    ledger.begin(sweep_dir, plan, asked)
    if not any(argument.startswith("hydra.sweep.dir=") for argument in arguments):
        arguments = [*arguments, f"hydra.sweep.dir={quoted(sweep_dir)}"]  # the time of day is not composed twice
    ended = DONE
    try:
        _hand_over(arguments, _sweep_task)
    except SystemExit as error:  # Hydra has told on stderr what went wrong in a launcher
        ended = DONE if error.code in (None, 0) else WRONG_REQUEST if error.code == WRONG_REQUEST else FAILED
    finally:
        code = ledger.finish(sweep_dir)
    return ended or code


def quoted(path: Path) -> str:
    """A path as a value that Hydra's parser reads back as it is."""
    # A quote is escaped, and so are backslashes before one; others stand for themselves.
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), str(path)) + "'"


def _hand_over(arguments: list[str], task: Any) -> None:
    """Let Hydra do what the arguments say with ``task``."""
    import hydra

    from cifar_exp.config.schema import register_schemas

    register_schemas()
    sys.argv = [sys.argv[0], *arguments]  # where Hydra looks
    hydra.main(version_base="1.3", config_path="pkg://cifar_exp.conf", config_name="config")(task)()


def _sweep_task(config: Any) -> float | None:
    """One job of a sweep. It stands at the module's level because launchers send it to other processes by name."""
    from hydra.core.hydra_config import HydraConfig

    from cifar_exp.sweeps.ledger import title_of

    node = HydraConfig.get()
    resolved, runtime = _resolved(config)
    sweep_dir = Path(runtime.cwd, node.sweep.dir)
    return run_in_sweep(
        resolved,
        Path(runtime.output_dir),
        sweep_dir,
        title=title_of(sweep_dir, node.job.num, node.overrides.task),
        fail_fast=config.sweep.fail_fast,
    )


def _resolved(config: Any) -> tuple[dict[str, Any], Any]:
    """The config as plain values, and Hydra's runtime."""
    from hydra.core.hydra_config import HydraConfig

    from cifar_exp.config.resolved import resolve

    runtime = HydraConfig.get().runtime
    return resolve(config, runtime.cwd), runtime


def _help(flags: Any) -> int:
    from cifar_exp.config.compose import help_text

    print(help_text(flags.overrides, config_dir=_config_dir(flags)))
    return DONE


def _config_dir(flags: Any) -> str | None:
    return os.path.abspath(flags.config_dir) if flags.config_dir else None


def _compose(flags: Any) -> list[Any]:
    """Compose and validate every job before the first one starts."""
    from cifar_exp.config.compose import compose_jobs
    from cifar_exp.trackers import check

    jobs = compose_jobs(
        flags.overrides,
        config_name=flags.config_name or "config",
        config_dir=_config_dir(flags),
        multirun=flags.multirun,
    )
    if not flags.cfg:
        for job in jobs:
            check(job)
    return jobs


def _check_folder(folder: Path, key: str) -> None:
    """Refuse a folder that cannot be written to, before Hydra tries."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        raise RequestError(f"{folder}: {error.strerror}; name another folder by {key}=...") from error
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise RequestError(f"{folder}: {there} is not a folder that can be written to; name another by {key}=...")


def _check_not_taken(folder: Path) -> None:
    """Refuse a directory that is in use: Hydra would write its own files there before the run could refuse."""
    from cifar_exp.run_dir.lifecycle import job_state
    from cifar_exp.run_dir.run_status import is_taken

    if not is_taken(folder):
        return
    try:
        state = str(job_state(folder))
    except RequestError:
        state = "its status cannot be read"
    goes_on = f"; `cifar-exp resume {folder}` goes on with it" if state in ("interrupted", "failed") else ""
    raise RequestError(f"{folder}: holds a run already ({state}){goes_on}; hydra.run.dir=... names another directory")
