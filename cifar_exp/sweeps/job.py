"""One job of the command line: run, and what goes wrong in it told and kept in its own directory."""

import gc
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from cifar_exp.compute.memory import off_for_imports
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import DONE, FAILED, WRONG_REQUEST, DivergedError, RequestError
from cifar_exp.safe_io.console import complain
from cifar_exp.sweeps import STOP_MARK

log = logging.getLogger(__name__)


def run_job(config: ExperimentConfig, out_dir: Path, *, resume: bool = False) -> tuple[int, dict[str, Any] | None]:
    """Run one job; what goes wrong in it is recorded in its own directory and reported in a line on stderr.

    Returns:
        The exit code that the job alone would have, and its summary row if it completed.

    Raises:
        KeyboardInterrupt: the run was interrupted, and where it stands is reported.
    """
    from cifar_exp.safe_io.console import log_to_console

    log_to_console()
    try:
        with off_for_imports():
            from cifar_exp.run import run
            from cifar_exp.run_dir.lifecycle import run_name
    except (ImportError, OSError, MemoryError) as error:  # too little memory for the libraries, or a broken one
        complain(f"{out_dir} could not be started: {type(error).__name__}: {error}")
        return FAILED, None
    try:
        return DONE, run(config, out_dir, resume=resume)
    except KeyboardInterrupt as error:
        complain(_interrupted(error, run_name(out_dir), config.trust))
        raise
    except RequestError as error:
        complain(str(error))
        return WRONG_REQUEST, None
    except DivergedError as error:
        complain(f"{run_name(out_dir)} diverged: {error}")
    except Exception as error:  # whatever it was, the other jobs of a sweep go on
        complain(
            f"{run_name(out_dir)} failed: {type(error).__name__}: {error}\n"
            f"the traceback is in {run_name(out_dir)}/run.log"
        )
    return FAILED, None


def _interrupted(error: KeyboardInterrupt, run: str, trust: list[str]) -> str:
    """Where an interrupted run stands, and the command that resumes it."""
    notes = getattr(error, "__notes__", [])  # of the place where the state was saved last
    if notes:
        saved = notes[0]
    else:
        saved = "its last checkpoint is kept" if Path(run, "checkpoints", "last.pt").exists() else "no step was saved"
    command = shlex.join(["cifar-exp", "resume", run, *(f"--trust={package}" for package in trust)])
    return f"interrupted; {saved}. Resume with: {command}"


def run_in_sweep(
    config: ExperimentConfig, out_dir: Path, sweep_dir: Path, *, title: str, fail_fast: bool
) -> float | None:
    """Do what is left to do of one job of a sweep: run it, go on with it, or nothing.

    Args:
        config: resolved configuration of the job.
        out_dir: its run directory, which may hold it already.
        sweep_dir: the sweep's directory.
        title: the job's number and what is special about it.
        fail_fast: keep the sweep from starting more jobs if this one fails.

    Returns:
        What a search maximizes: the accuracy on the validation split; None where there is none.
    """
    from cifar_exp.safe_io.console import log_to_console

    with off_for_imports():
        from cifar_exp import data
        from cifar_exp.run_dir.lifecycle import run_name, same_config
        from cifar_exp.run_dir.run_status import job_state
        from cifar_exp.run_dir.tables import read_table

    log_to_console()
    if (sweep_dir / STOP_MARK).exists():
        return None
    state = job_state(out_dir)
    if state is not None and not same_config(out_dir, config):
        complain(f"{run_name(out_dir)}: holds a run of another config, and is left alone")
        return None
    if state == "completed":
        log.info("%s: completed before", title)
        try:
            accuracy = float(read_table(out_dir / "summary.csv")["val_accuracy"].iloc[0])
        except (OSError, ValueError, LookupError) as error:
            complain(f"{run_name(out_dir)}: summary.csv cannot be read: {error}")
            return None
        return None if accuracy != accuracy else accuracy
    if state in ("running", "diverged"):
        log.info(
            "%s: %s", title, "another process is at it" if state == "running" else "diverged before, and would again"
        )
        return None
    data.share_between_runs()
    log.info("%s%s", title, f": {state} before, goes on" if state else "")
    code, summary = run_job(config, out_dir, resume=state is not None)
    if code != DONE and fail_fast:
        (sweep_dir / STOP_MARK).touch()
    _release_memory()
    return None if summary is None else summary["val_accuracy"]


def _release_memory() -> None:
    """Give back what the job held, the GPU's memory included, before the next one begins."""
    import torch

    gc.collect()  # networks are cycles of references
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
