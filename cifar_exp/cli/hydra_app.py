"""Hydra's side of the command line: composing first, then one run, or a sweep's jobs by whichever launcher.

The only module that knows Hydra's runtime and ``sys.argv``.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.compute.distributed import torchrun
from cifar_exp.config.overrides import quoted
from cifar_exp.errors import DONE, WRONG_REQUEST, RequestError
from cifar_exp.safe_io.console import complain

_ON_THIS_MACHINE = ("basic", "joblib")  # launchers

if TYPE_CHECKING:
    from cifar_exp.sweeps.grid import Request


def experiment(arguments: list[str]) -> int:
    """One run or a sweep, from Hydra's arguments; returns the exit code.

    Raises:
        RequestError: the request itself is wrong.
    """
    from cifar_exp.cli.hydra_parser import as_arguments, parse

    flags = parse(arguments)
    if flags.experimental_rerun:
        raise RequestError("--experimental-rerun unpickles a file; `cifar-exp reproduce RUN` does not")
    if flags.config_path:
        raise RequestError("--config-path would hide the shipped options; --config-dir adds yours to them")
    if sum(map(bool, (flags.run, flags.multirun, flags.cfg, flags.info, flags.shell_completion))) > 1:
        raise RequestError("only one of --run, -m, --cfg, --info and --shell-completion at a time")
    if flags.help:
        from cifar_exp.cli.help import show_help

        return show_help(flags.overrides, config_dir=_config_dir(flags))
    _register_launchers()
    arguments = as_arguments(flags)
    if flags.multirun or not (flags.hydra_help or flags.info or flags.shell_completion or flags.cfg):
        from cifar_exp.config.compose import is_multirun

        name, config_dir = flags.config_name or "config", _config_dir(flags)
        if flags.multirun or is_multirun(flags.overrides, name, config_dir):
            from cifar_exp.sweeps.grid import Request

            return run_sweep(Request(flags.overrides, name, config_dir))
    if flags.hydra_help or flags.info or flags.shell_completion:
        _hand_over(arguments, _sweep_task)
        return DONE
    jobs = _compose(flags)
    if flags.cfg:
        _hand_over(arguments, _sweep_task)
        return DONE
    run_dir = _folder(jobs[0], "hydra.run.dir")
    _check_not_taken(run_dir)
    return _run(run_dir, [*arguments, f"hydra.run.dir={quoted(str(run_dir))}"])


def _run(run_dir: Path, arguments: list[str]) -> int:
    """Do one run; a wrong request leaves nothing behind, not even the folders that were made for it."""
    from cifar_exp.run_dir.lifecycle import Leftovers
    from cifar_exp.sweeps.job import run_job

    leftovers = Leftovers(run_dir)
    codes = [DONE]

    def task(config: Any) -> None:
        # Hydra would write lines of its own about an error that it sees.
        try:
            codes.append(run_job(_resolved(config)[0], run_dir)[0])
        except RequestError as error:
            complain(str(error))
            codes.append(WRONG_REQUEST)

    _hand_over(arguments, task)
    if codes[-1] == WRONG_REQUEST:
        leftovers.remove()
    return codes[-1]


def run_sweep(request: "Request") -> int:
    """Run the jobs of a sweep; those that are done return at once.

    Returns:
        The exit code.

    Raises:
        RequestError: the request itself is wrong.
    """
    from cifar_exp.cli.preflight import check
    from cifar_exp.sweeps import grid, ledger

    torchrun.require_one_process("-m")
    _register_launchers()
    sweep = grid.compose_sweep(request)
    for job in sweep.jobs:
        check(job.config, here=sweep.master.hydra.runtime.choices["hydra/launcher"] in _ON_THIS_MACHINE)
    _folder(sweep.master, "hydra.sweep.dir")
    grid.check_directories(sweep, request.directories)
    if sweep.master.sweep.plan:
        from cifar_exp.sweeps.estimate import show_plan

        if sweep.is_search:
            raise RequestError("sweep.plan=true: only for hydra/sweeper=basic, whose jobs are known beforehand")
        return show_plan(sweep.jobs, sweep.directory)
    ledger.begin(sweep, request)
    try:
        grid.launch(sweep, _sweep_task)
    finally:
        code = ledger.finish(sweep.directory)
    return code


def _register_launchers() -> None:
    from cifar_exp.sweeps.launchers import options

    options.register()


def _hand_over(arguments: list[str], task: Any) -> None:
    """Let Hydra do what the arguments say with ``task``."""
    import hydra

    from cifar_exp.config.schema import register_schemas

    register_schemas()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # an error comes out as it is, without Hydra's own lines about it
    sys.argv = [sys.argv[0], *arguments]  # where Hydra looks
    hydra.main(version_base="1.3", config_path="pkg://cifar_exp.conf", config_name="config")(task)()


def _sweep_task(config: Any) -> float | None:
    """One job of a sweep. It stands at the module's level because launchers send it to other processes by name."""
    from hydra.core.hydra_config import HydraConfig

    from cifar_exp.sweeps.job import run_in_sweep
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


def _resolved(config: Any) -> tuple[Any, Any]:
    """The typed config, and Hydra's runtime."""
    from hydra.core.hydra_config import HydraConfig

    from cifar_exp.config.resolved import resolve

    runtime = HydraConfig.get().runtime
    return resolve(config, runtime.cwd), runtime


def _config_dir(flags: Any) -> str | None:
    return os.path.abspath(flags.config_dir) if flags.config_dir else None


def _compose(flags: Any) -> list[Any]:
    """Compose and validate the run before it starts."""
    from cifar_exp.cli.preflight import check
    from cifar_exp.config.compose import compose_jobs, without_hydra
    from cifar_exp.config.resolved import resolve

    jobs = compose_jobs(flags.overrides, config_name=flags.config_name or "config", config_dir=_config_dir(flags))
    if not flags.cfg:
        check(resolve(without_hydra(jobs[0])), here=True)
    return jobs


def _folder(job: Any, key: str) -> Path:
    """A folder that Hydra is to write to.

    Raises:
        RequestError: it cannot be written to, or its name cannot be resolved.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from cifar_exp.config.resolved import first_line

    try:
        folder = Path(str(OmegaConf.select(job, key)))
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OmegaConfBaseException as error:
        raise RequestError(f"{key}: {first_line(error)}") from error
    except OSError as error:
        raise RequestError(f"{folder}: {error.strerror}; name another folder by {key}=...") from error
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise RequestError(f"{folder}: {there} is not a folder that can be written to; name another by {key}=...")
    return folder


def _check_not_taken(folder: Path) -> None:
    """Refuse a directory that is in use: Hydra would write its own files there before the run could refuse."""
    from cifar_exp.run_dir.run_status import is_taken, job_state

    if not is_taken(folder):
        return
    try:
        state = str(job_state(folder))
    except RequestError:
        state = "its status cannot be read"
    goes_on = f"; `cifar-exp resume {folder}` goes on with it" if state in ("interrupted", "failed") else ""
    raise RequestError(f"{folder}: holds a run already ({state}){goes_on}; hydra.run.dir=... names another directory")
