"""The life of a run directory: claimed, running, and ended in a state that it records itself."""

import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cifar_exp import records
from cifar_exp.config import config_hash, flatten, to_yaml
from cifar_exp.errors import DivergedError, RequestError
from cifar_exp.logs import log_to_file


@contextmanager
def recorded(out_dir: Path, config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Claim ``out_dir`` and keep its ``status.json``, ``run.log`` and config for the duration of a run.

    Yields:
        The status, for ``records.update_status``.

    Raises:
        RequestError: the directory holds a run already (nothing in it is touched).
    """
    try:
        status = records.claim(out_dir, config_hash(config))
    except FileExistsError as error:
        raise RequestError(
            f"{out_dir}: holds a run already; choose another directory (hydra.run.dir=...) or remove it"
        ) from error
    except OSError as error:
        raise RequestError(f"{out_dir}: cannot be made into a run directory: {error}") from error
    with log_to_file(out_dir / "run.log"):
        try:
            records.write_text(out_dir / "config_resolved.yaml", to_yaml(config))
            yield status
        except BaseException as error:
            state = _state_after(error)
            _write_traceback(out_dir, f"The run ended as {state}: {_in_words(error)}")
            # The disk may be what failed: then what was written before is all there is.
            with suppress(OSError):
                _end(out_dir, config, status, state, _in_words(error))
            raise
        records.update_status(out_dir, status, state="completed", finished_at=records.now())


def write_summary(
    out_dir: Path, config: dict[str, Any], state: str, measured: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write ``summary.csv``: fixed columns, then every leaf of the config. Returns the row."""
    leaves = {f"config.{key}": value for key, value in flatten(config).items()}
    row = {"run": run_name(out_dir), "state": state, **(measured or {}), **leaves}
    records.write_table(out_dir / "summary.csv", [*records.SUMMARY_COLUMNS, *leaves], [row])
    return row


def run_name(out_dir: Path) -> str:
    """The run directory as a person would name it: relative to the current folder where it lies below it."""
    path = out_dir.absolute()
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return path.as_posix()


def _end(out_dir: Path, config: dict[str, Any], status: dict[str, Any], state: str, reason: str) -> None:
    if not (out_dir / "summary.csv").exists():
        write_summary(out_dir, config, state, {"epochs_completed": status["epochs_completed"]})
    records.update_status(out_dir, status, state=state, error=reason, finished_at=records.now())


def _state_after(error: BaseException) -> str:
    if isinstance(error, DivergedError):
        return "diverged"
    return "failed" if isinstance(error, Exception) else "interrupted"


def _in_words(error: BaseException) -> str:
    if isinstance(error, RequestError | DivergedError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _write_traceback(out_dir: Path, headline: str) -> None:
    """Append the traceback to ``run.log`` only: whoever called says it in a line on the terminal."""
    with suppress(OSError), (out_dir / "run.log").open("a", encoding="utf-8") as file:
        file.write(f"{headline}\n{traceback.format_exc()}")
        file.flush()
        os.fsync(file.fileno())
