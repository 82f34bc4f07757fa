"""A run directory that someone made earlier, and may not be the one who reads it."""

from collections.abc import Sequence
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
from cifar_exp.safe_io import atomic

MLFLOW_RUN_FILE = "mlflow_run.json"  # which of MLflow's runs a run directory is


@dataclass(frozen=True)
class SavedRun:
    """A run that can be used.

    Attributes:
        path: its directory.
        state: one of ``run_status.STATES``, or ``unknown``.
        config: its resolved config, checked as if it had been typed in.
        environment: the content of ``environment.json``; empty where the run has none.
        edited: whether the saved config is not the one that the run recorded having started with.
    """

    path: Path
    state: str
    config: ExperimentConfig
    environment: dict[str, Any]
    edited: bool

    def table(self, name: str, needed: Sequence[str], *, numeric: bool = False) -> pd.DataFrame:
        """One of the run's CSVs.

        Args:
            name: of the file.
            needed: columns without which it is of no use.
            numeric: whether every cell must be a number.

        Raises:
            RequestError: it is missing or damaged.
        """
        try:
            table = tables.read_table(self.path / name)
            if absent := [column for column in needed if column not in table.columns]:
                raise ValueError(f"it has no column {', '.join(absent)}")
            if table.empty:
                raise ValueError("it has no rows")
            return table.apply(pd.to_numeric, errors="raise") if numeric else table
        except (OSError, ValueError) as error:
            raise RequestError(f"{self.path / name}: cannot be read: {error}") from error


def open_run(path: Path, *, trust: Sequence[str] = (), completed: bool = True) -> SavedRun:
    """Open a run.

    Args:
        path: its directory.
        trust: packages of the user's own that its config may call.
        completed: whether only a completed run will do.

    Raises:
        RequestError: ``path`` is not a run directory, the run did not complete, or its config is not allowed.
    """
    if not path.is_dir():
        raise RequestError(f"{path}: {'is a file, not a run directory' if path.exists() else 'there is no such run'}")
    if not (path / "config_resolved.yaml").is_file():
        raise RequestError(f"{path}: not a run directory: it has no config_resolved.yaml")
    status = _read_json(path / "status.json")
    state = run_status.state_of(path, status)
    if completed and state != "completed":
        hint = "; continue it with `cifar-exp resume`" if state in ("interrupted", "failed") else ""
        raise RequestError(
            f"{path}: the run is not completed (state: {state}); this command needs a completed run{hint}"
        )
    config = load_saved(path / "config_resolved.yaml", trust)
    edited = status.get("config_hash") not in (None, saved_hash(path / "config_resolved.yaml"))
    # Whoever made the run does not say where this program writes: the reader's own cache is used.
    own: dict[str, Any] = {"data.cache": None}
    if completed or not has_known_tracker(config, path):
        own |= {"tracker.name": "none", "tracker.store": None}
    config = changed(config, own)
    return SavedRun(path, state, config, _read_json(path / "environment.json"), edited)


def new_directory(out: Path | None, kind: str) -> Path:
    """The directory that a command about a saved run is to make: ``out``, or one by the time of day.

    Args:
        out: as the user named it; None takes ``outputs/KIND/DATE/TIME`` under the current folder.
        kind: what goes there.

    Raises:
        RequestError: it exists already.
    """
    out = out or Path("outputs", kind, datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f"))
    if out.exists():
        raise RequestError(f"--out {out}: exists already; name a new directory")
    return out


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return atomic.read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from error


def has_known_tracker(config: ExperimentConfig, out_dir: Path) -> bool:
    """Whether a saved run's tracker writes only where it wrote before: a stranger's config makes no new store."""
    name, store = config.tracker.name, config.tracker.store
    return name == "tensorboard" or (
        name == "mlflow" and (out_dir / MLFLOW_RUN_FILE).is_file() and is_mlflow_store(store or "")
    )


def is_mlflow_store(folder: str | Path) -> bool:
    """Whether MLflow's tables are in the folder."""
    return Path(folder, "mlflow.db").is_file()
