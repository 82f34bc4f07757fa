"""The life of a run directory: claimed, running, and ended in a recorded state."""

import logging
import os
import shutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from cifar_exp.config.parse import changed, flatten
from cifar_exp.config.resolved import config_hash, load_saved, to_yaml
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import DivergedError, PrunedError, RequestError, in_a_line
from cifar_exp.run_dir import run_status, tables
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.console import log_to_file
from cifar_exp.safe_io.untrusted import displayable, refuse_irregular

log = logging.getLogger(__name__)

_MEASURED = set(tables.SUMMARY_COLUMNS) - {"run", "state"}


@contextmanager
def recorded(out_dir: Path, config: ExperimentConfig, *, resume: bool = False) -> Iterator[dict[str, Any]]:
    """Claim ``out_dir`` and write its ``status.json``, ``run.log`` and config during a run.

    Yields:
        The status, for ``run_status.update_status``.

    Raises:
        RequestError: the directory already contains a run, or another process holds its lock; nothing is changed.
    """
    with ExitStack() as stack:
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
            if resume:  # the run may be a stranger's, who must not decide where this program writes
                refuse_irregular(out_dir)
            stack.enter_context(run_status.locked(out_dir))
            status = run_status.claim_again(out_dir) if resume else run_status.claim(out_dir, config_hash(config))
            stack.enter_context(log_to_file(out_dir / "run.log"))
        except OSError as error:
            raise RequestError(f"{out_dir}: cannot be used as a run directory: {error}") from error
        try:
            if not resume:
                atomic.write_text(out_dir / "config_resolved.yaml", to_yaml(config))
            yield status
        except BaseException as error:
            state = state_after(error)
            if state == "pruned":
                log.info("Pruned %s", error)
            else:
                write_traceback(out_dir, f"The run ended as {state}: {_message(error)}")
            _end(out_dir, config, status, state, _message(error))
            raise
        run_status.update_status(out_dir, status, state="completed", finished_at=run_status.now())


class Leftovers:
    """The files that a run adds to a directory, to be removed if the request was wrong and no step was done.

    Made before anything is created in the directory.
    """

    def __init__(self, out_dir: Path) -> None:
        self._out_dir = out_dir.absolute()
        self._missing = [path for path in (self._out_dir, *self._out_dir.parents) if not path.exists()]
        self._kept = set() if self._missing else set(os.listdir(self._out_dir))
        self.keep = False  # set to True if the user needs run.log

    def remove(self) -> None:
        """Remove them, unless the directory holds a run that can be resumed or that belongs to another process."""
        if self.keep:
            return
        with suppress(OSError, RequestError):  # a status that cannot be read may be another run's
            if self._out_dir.exists() and run_status.job_state(self._out_dir) is None:
                for path in self._out_dir.iterdir():
                    if path.name not in self._kept:
                        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            for folder in self._missing:
                folder.rmdir()


def same_config(out_dir: Path, config: ExperimentConfig) -> bool:
    """Whether the run in a directory has this config, apart from ``data.cache``."""
    with suppress(OSError, ValueError):
        if run_status.read_status(out_dir)["config_hash"] == config_hash(config):
            return True
    try:
        saved = load_saved(out_dir / "config_resolved.yaml", config.trust)
    except RequestError:
        return False
    one, other = (changed(c, {"data.cache": None}) for c in (saved, config))
    return config_hash(one) == config_hash(other)


def write_summary(
    out_dir: Path, config: ExperimentConfig, state: str, measured: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write ``summary.csv``: fixed columns, then every leaf of the config. Returns the row."""
    leaves = {f"config.{key}": value for key, value in flatten(config).items()}
    row = {"run": run_name(out_dir), "state": state, **(measured or {}), **leaves}
    tables.write_table(out_dir / "summary.csv", [*tables.SUMMARY_COLUMNS, *leaves], [row])
    return row


def run_name(out_dir: Path) -> str:
    """Return the run directory for display: relative to the current folder if it lies below it."""
    path = out_dir.absolute()
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return displayable(path.as_posix())


def _end(out_dir: Path, config: ExperimentConfig, status: dict[str, Any], state: str, reason: str) -> None:
    # On a full disk earlier files stay as they are, and the state is written if there is space for it.
    measured: Mapping[str, Any] = {key: status.get(key) for key in ("epochs_completed", "max_lr_used")}
    with suppress(OSError, ValueError, LookupError):  # results that are complete are kept
        row = tables.read_table(out_dir / "summary.csv").iloc[0]
        if row["state"] == "completed":
            measured = {key: None if value != value else value for key, value in row.items() if key in _MEASURED}
    with suppress(OSError):
        write_summary(out_dir, config, state, measured)
    with suppress(OSError):
        run_status.update_status(out_dir, status, state=state, error=reason, finished_at=run_status.now())


@contextmanager
def errors_as_warnings(out_dir: Path, what: str, status: dict[str, Any] | None = None) -> Iterator[None]:
    """Turn an error of the block into a warning, because the results of training are complete without it.

    ``what`` the block makes is for the warning. ``status`` lists the warnings of a run for its page.
    """
    try:
        yield
    except Exception as error:
        warning = f"{what} could not be made: {in_a_line(error)}"
        log.warning("%s (traceback in %s/run.log); the tables are not affected", warning, run_name(out_dir))
        write_traceback(out_dir, warning)
        if status is not None:
            with suppress(OSError):
                run_status.update_status(out_dir, status, warnings=[*status.get("warnings", []), warning])


def state_after(error: BaseException) -> str:
    """Return the state of a run that ended with this error."""
    if isinstance(error, DivergedError):
        return "diverged"
    if isinstance(error, PrunedError):
        return "pruned"
    return "failed" if isinstance(error, Exception) else "interrupted"


def _message(error: BaseException) -> str:
    if isinstance(error, RequestError | DivergedError | PrunedError):
        return str(error)
    return str(error) or "stopped by a signal" if isinstance(error, KeyboardInterrupt) else in_a_line(error)


def write_traceback(out_dir: Path, headline: str) -> None:
    """Append the current traceback to ``run.log`` only; the terminal gets one line from the caller."""
    with suppress(OSError), (out_dir / "run.log").open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{headline}\n{traceback.format_exc()}")
