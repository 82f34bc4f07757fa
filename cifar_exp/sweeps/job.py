"""One job of the command line: run it; record and report its errors."""

import gc
import logging
import math
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.compute.memory import collector_off_for_imports
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import DONE, FAILED, WRONG_REQUEST, DivergedError, PrunedError, RequestError
from cifar_exp.safe_io.console import complain, log_to_console
from cifar_exp.sweeps import STOP_MARK

if TYPE_CHECKING:
    from cifar_exp.run_dir.lifecycle import Leftovers

log = logging.getLogger(__name__)

_SKIPPED = {
    "completed": "already completed",
    "running": "already running in another process",
    "diverged": "diverged earlier (deterministic, would diverge again)",
    "pruned": "pruned earlier",
}


def run_job(
    config: ExperimentConfig,
    out_dir: Path,
    *,
    resume: bool = False,
    after_epoch: Sequence[Callable[[], None]] = (),
    leftovers: "Leftovers | None" = None,
) -> tuple[int, dict[str, Any] | None]:
    """Run one job. An error is recorded in its directory and reported on stderr.

    ``leftovers`` are marked to be kept if the user's own code raised the error, whose traceback is in ``run.log``.

    Returns:
        The exit code of the job (0 for a pruned one), and its summary row if it completed.

    Raises:
        KeyboardInterrupt: the run was interrupted; its position and the command to resume it are reported.
    """
    log_to_console()
    try:
        with collector_off_for_imports():
            from cifar_exp.run_dir.lifecycle import run_name
            from cifar_exp.runner import run
    except (ImportError, OSError, MemoryError) as error:  # too little memory for a library, or a broken one
        complain(f"{out_dir} could not be started: {type(error).__name__}: {error}")
        return FAILED, None
    try:
        return DONE, run(config, out_dir, resume=resume, after_epoch=after_epoch)
    except PrunedError:
        return DONE, None
    except KeyboardInterrupt as error:
        complain(_interrupted(error, run_name(out_dir), config.trust))
        raise
    except RequestError as error:
        is_own = _is_raised_in_own_code(error, config.trust)
        complain(f"{error}\nthe traceback is in {run_name(out_dir)}/run.log" if is_own else str(error))
        if leftovers is not None:
            leftovers.keep = is_own
        return WRONG_REQUEST, None
    except DivergedError as error:
        complain(f"{run_name(out_dir)} diverged: {error}")
    except Exception as error:  # the other jobs of a sweep still run
        name = run_name(out_dir)
        complain(f"{name} failed: {type(error).__name__}: {error}\nthe traceback is in {name}/run.log")
    return FAILED, None


def _is_raised_in_own_code(error: BaseException, packages: Sequence[str]) -> bool:
    """Whether the user's own code, or a network in the trial before training, raised one of the error's causes."""
    cause = error.__cause__ if packages else None
    while cause is not None:
        modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(cause.__traceback__)]
        if any(module == "cifar_exp.network" or module.partition(".")[0] in packages for module in modules):
            return True
        cause = cause.__cause__
    return False


def _interrupted(error: KeyboardInterrupt, run: str, trust: list[str]) -> str:
    """The position of an interrupted run, and the command that resumes it."""
    has_checkpoint = Path(run, "checkpoints", "last.pt").exists()
    saved = "its last checkpoint is kept" if has_checkpoint else "no step was saved"
    saved = next(iter(getattr(error, "__notes__", [])), saved)  # the position that was saved last
    command = shlex.join(["cifar-exp", "resume", run, *(f"--trust={package}" for package in trust)])
    return f"interrupted; {saved}. Resume with: {command}"


def run_in_sweep(
    config: ExperimentConfig,
    out_dir: Path,
    sweep_dir: Path,
    *,
    title: str,
    fail_fast: bool,
    after_epoch: Sequence[Callable[[], None]] = (),
) -> float | None:
    """Run, resume or skip one job of a sweep, depending on the state of its run directory, which may exist.

    ``title`` holds the job's number and overrides. With ``fail_fast``, the sweep starts no more jobs if this one fails.

    Returns:
        The accuracy on the validation split, which a search maximizes; None without a validation split.
    """
    with collector_off_for_imports():
        from cifar_exp import data
        from cifar_exp.run_dir.lifecycle import run_name, same_config
        from cifar_exp.run_dir.run_status import job_state

    log_to_console()
    if (sweep_dir / STOP_MARK).exists():
        return None
    state = job_state(out_dir)
    if state is not None and not same_config(out_dir, config):
        complain(f"{run_name(out_dir)}: skipped: contains a run with another config")
        return None
    if state in _SKIPPED:
        log.info("%s: skipped: %s", title, _SKIPPED[state])
        return _recorded_accuracy(out_dir) if state == "completed" else None
    data.share_between_runs()
    log.info("%s%s", title, f": resuming (was {state})" if state else "")
    code, summary = run_job(config, out_dir, resume=state is not None, after_epoch=after_epoch)
    if code != DONE and fail_fast:
        (sweep_dir / STOP_MARK).touch()
    _release_memory()
    return None if summary is None else summary["val_accuracy"]


def _recorded_accuracy(out_dir: Path) -> float | None:
    """The validation accuracy in ``summary.csv``."""
    from cifar_exp.run_dir.lifecycle import run_name
    from cifar_exp.run_dir.tables import read_table

    try:
        accuracy = float(read_table(out_dir / "summary.csv")["val_accuracy"].iloc[0])
    except (OSError, ValueError, LookupError) as error:
        complain(f"{run_name(out_dir)}: summary.csv cannot be read: {error}")
        return None
    return None if math.isnan(accuracy) else accuracy


def _release_memory() -> None:
    """Release the job's memory, on the GPU too, before the next job starts."""
    import torch

    gc.collect()  # networks contain reference cycles
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
