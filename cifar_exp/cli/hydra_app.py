"""Hydra's side of the command line: compose and check first, then run one experiment or the jobs of a sweep.

The only module that knows Hydra's runtime and ``sys.argv``.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig

from cifar_exp.cli.check_request import check
from cifar_exp.cli.hydra_parser import as_arguments, parse
from cifar_exp.compute.distributed import torchrun
from cifar_exp.config.compose import compose_job, hydra_path, is_multirun, without_hydra
from cifar_exp.config.overrides import quoted
from cifar_exp.config.resolved import resolve
from cifar_exp.config.schema import register_schemas
from cifar_exp.errors import DONE, WRONG_REQUEST, RequestError
from cifar_exp.safe_io.console import complain
from cifar_exp.safe_io.untrusted import write_problem
from cifar_exp.sweeps.launchers import options

_LOCAL_LAUNCHERS = ("basic", "joblib")

if TYPE_CHECKING:
    from cifar_exp.sweeps.grid import Request


def run_experiment(arguments: list[str]) -> int:
    """Run one experiment or a sweep, from Hydra's arguments; returns the exit code."""
    flags = parse(arguments)
    if flags.experimental_rerun:
        raise RequestError("--experimental-rerun unpickles a file; use `cifar-exp reproduce RUN` instead")
    if flags.config_path:
        raise RequestError("--config-path hides the shipped options; --config-dir adds yours to them")
    if sum(map(bool, (flags.run, flags.multirun, flags.cfg, flags.info, flags.shell_completion))) > 1:
        raise RequestError("only one of --run, -m, --cfg, --info and --shell-completion at a time")
    name = flags.config_name or "config"
    config_dir = os.path.abspath(flags.config_dir) if flags.config_dir else None
    if flags.help:
        from cifar_exp.cli.help import show_help

        return show_help(flags.overrides, config_dir=config_dir)
    options.register()
    shows_hydra = flags.hydra_help or flags.info or flags.shell_completion
    if flags.multirun or (not (shows_hydra or flags.cfg) and is_multirun(flags.overrides, name, config_dir)):
        from cifar_exp.sweeps.grid import Request

        return run_sweep(Request(flags.overrides, name, config_dir))
    if not shows_hydra:
        job = compose_job(flags.overrides, config_name=name, config_dir=config_dir)
        if not flags.cfg:
            return _run(job, as_arguments(flags))
    _hand_over(as_arguments(flags), _sweep_task)
    return DONE


def _run(job: Any, arguments: list[str]) -> int:
    """Check and run one composed experiment; a wrong request leaves no file and no folder behind."""
    from cifar_exp.run_dir.lifecycle import Leftovers
    from cifar_exp.run_dir.run_status import refuse_taken
    from cifar_exp.sweeps.job import run_job

    check(resolve(without_hydra(job)))
    run_dir = hydra_path(job, "hydra.run.dir")
    _check_writable(run_dir, "hydra.run.dir")
    refuse_taken(run_dir)  # before Hydra writes its own files there
    leftovers = Leftovers(run_dir)
    codes = [DONE]

    def task(config: Any) -> None:
        # Hydra would print lines of its own about an exception that reaches it.
        try:
            codes.append(run_job(resolve(config, HydraConfig.get().runtime.cwd), run_dir, leftovers=leftovers)[0])
        except RequestError as error:
            complain(str(error))
            codes.append(WRONG_REQUEST)

    _hand_over([*arguments, f"hydra.run.dir={quoted(str(run_dir))}"], task)
    if codes[-1] == WRONG_REQUEST:
        leftovers.remove()
    return codes[-1]


def run_sweep(request: "Request") -> int:
    """Run the jobs of a sweep, completed ones excepted; returns the exit code."""
    from cifar_exp.sweeps import grid, ledger

    torchrun.require_one_process("-m")
    options.register()
    sweep = grid.compose_sweep(request)
    for job in sweep.jobs:
        check(job.config, here=sweep.master.hydra.runtime.choices["hydra/launcher"] in _LOCAL_LAUNCHERS)
    _check_writable(sweep.directory, "hydra.sweep.dir")
    grid.check_directories(sweep, request.directories)
    if sweep.master.sweep.plan:
        from cifar_exp.sweeps.estimate import show_plan

        if sweep.is_search:
            raise RequestError("sweep.plan=true: needs hydra/sweeper=basic, whose jobs are known in advance")
        return show_plan(sweep.jobs, sweep.directory)
    ledger.begin(sweep, request)
    try:
        grid.launch(sweep, _sweep_task)
    finally:
        code = ledger.finish(sweep.directory)
    return code


def _hand_over(arguments: list[str], task: Any) -> None:
    """Let Hydra process the arguments and call ``task``."""
    register_schemas()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let an exception pass, without Hydra's own lines about it
    sys.argv = [sys.argv[0], *arguments]  # where Hydra reads them
    hydra.main(version_base="1.3", config_path="pkg://cifar_exp.conf", config_name="config")(task)()


def _sweep_task(config: Any) -> float | None:
    """Run one job of a sweep. At module level because launchers send it to other processes by name."""
    from cifar_exp.sweeps.job import run_in_sweep
    from cifar_exp.sweeps.ledger import title_of
    from cifar_exp.sweeps.pruning import prune_between_epochs

    node = HydraConfig.get()
    resolved = resolve(config, node.runtime.cwd)
    sweep_dir, out_dir = Path(node.runtime.cwd, node.sweep.dir), Path(node.runtime.output_dir)
    after_epoch = []
    if options.is_search(node) and node.sweeper.pruner != "none":
        after_epoch.append(prune_between_epochs(sweep_dir, out_dir, node.job.num, resolved.epochs, node.sweeper.pruner))
    return run_in_sweep(
        resolved,
        out_dir,
        sweep_dir,
        title=title_of(sweep_dir, node.job.num),
        fail_fast=config.sweep.fail_fast,
        after_epoch=after_epoch,
    )


def _check_writable(folder: Path, key: str) -> None:
    """Refuse an output folder, named by a key of Hydra's, that cannot be created or written to."""
    if problem := write_problem(folder):
        raise RequestError(f"{folder}: {problem}; choose another folder with {key}=...")
