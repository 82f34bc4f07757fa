"""A finished run as other commands use it: its config may be a stranger's and is checked before use."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_exp.config.parse import changed
from cifar_exp.config.resolved import load_saved, saved_hash
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status, tables
from cifar_exp.run_dir.read import require_run
from cifar_exp.safe_io.untrusted import read_json, write_problem


@dataclass(frozen=True)
class SavedRun:
    """A run that can be used."""

    path: Path  # its directory
    state: str  # one of ``run_status.STATES``, or ``unknown``
    config: ExperimentConfig  # its resolved config, checked as overrides are
    environment: dict[str, Any]  # the content of ``environment.json``; {} if the run has none
    edited: bool  # whether the saved config was changed after the run had started

    def table(self, name: str, needed: Sequence[str], *, numeric: bool = False) -> pd.DataFrame:
        """Read one of the run's CSVs with the ``needed`` columns; if ``numeric``, every cell must be a number.

        Raises:
            RequestError: it is missing or damaged.
        """
        try:
            table = tables.read_table(self.path / name, needed)
            if table.empty:
                raise ValueError("it has no rows")
            return table.apply(pd.to_numeric, errors="raise") if numeric else table
        except (OSError, ValueError) as error:
            raise RequestError(f"{self.path / name}: cannot be read: {error}") from error


def open_run(
    path: Path,
    *,
    trust: Sequence[str] = (),
    completed: bool = True,
    keeps_tracker: Callable[[str, ExperimentConfig, Path], bool] = lambda _name, _config, _path: False,
) -> SavedRun:
    """Open a run. ``trust`` names the user's own packages that its config may call.

    Raises:
        RequestError: ``path`` is not a run directory, the run did not complete, or its config is not allowed.
    """
    require_run(path, "config_resolved.yaml")
    status = _read_json(path / "status.json")
    state = run_status.state_of(path, status)
    if completed and state != "completed":
        hint = "; continue it with `cifar-exp resume`" if state in run_status.RESUMABLE else ""
        raise RequestError(
            f"{path}: the run is not completed (state: {state}); this command needs a completed run{hint}"
        )
    if (path / "config_resolved.yaml").is_symlink():  # its content would end in messages
        raise RequestError(f"{path / 'config_resolved.yaml'}: is a link; a run's own file is needed")
    config = load_saved(path / "config_resolved.yaml", trust)
    edited = status.get("config_hash") not in (None, saved_hash(path / "config_resolved.yaml"))
    dropped = [name for name in config.tracker.names if not keeps_tracker(name, config, path)]
    # A stranger's run must not decide where this program writes: the user's own cache is used.
    own: dict[str, Any] = {"data.cache": None, **{f"tracker.{name}": False for name in dropped}}
    if dropped == config.tracker.names:
        own["tracker.store"] = None
    config = changed(config, own)
    return SavedRun(path, state, config, _read_json(path / "environment.json"), edited)


def new_output(out: Path | None, kind: str, file: str = "") -> Path:
    """Return the new directory, or the new file, for a command's output; by default ``outputs/KIND/DATE/TIME[/FILE]``.

    Raises:
        RequestError: it already exists, or cannot be created.
    """
    out = out or Path("outputs", kind, datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f"), file)
    if os.path.lexists(out):
        raise RequestError(f"--out {out}: already exists; name a new {'file' if file else 'directory'}")
    if problem := write_problem(out):
        raise RequestError(f"--out {out}: cannot be created: {problem}")
    return out


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from error
