"""Reads run directories, which may be unfinished, damaged or from a stranger, and lists what cannot be read."""

import math
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cifar_exp.config.parse import flatten
from cifar_exp.config.resolved import read_plain
from cifar_exp.config.version_0_1 import current_cell, with_current_targets
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status, tables
from cifar_exp.run_dir.arrays import PROBABILITIES, read_probabilities
from cifar_exp.run_dir.kept_images import FILE as IMAGES_FILE
from cifar_exp.run_dir.kept_images import KeptImages, read_images
from cifar_exp.safe_io import untrusted

_MOST_BYTES = 2**28  # of one file; steps.csv of a million steps has 60 MB
_MOST_LOG_LINES = 40

T = TypeVar("T")

# Columns of text. In all others, a cell that is not a finite number counts as empty.
_TEXT = {"source", "label", "prediction", "suggested", "class", "target", "layer", "infill", "verdict", "correct"}
# Each table that is a field of ``RunDirectory``, with the columns that it must have.
_TABLES: dict[str, Sequence[str]] = {
    "metrics": ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"),
    "steps": ("step", "learning_rate", "loss"),
    "schedule": tables.SCHEDULE_COLUMNS,
    "predictions": tables.PREDICTIONS_COLUMNS,
    "per_class": ("class", "images", "correct", "accuracy"),
    "gradcam": tables.GRADCAM_COLUMNS_0_1,
    "calibration": tables.CALIBRATION_COLUMNS,
    "label_issues": tables.LABEL_ISSUES_COLUMNS,
    "faithfulness": tables.FAITHFULNESS_COLUMNS,
}
_LISTED_FILES = {".csv", ".json", ".yaml", ".log", ".png", ".diff", ".pt", ".npz"}


@dataclass(frozen=True)
class RunDirectory:
    """The records of a run. A table is None if it is missing or cannot be read."""

    path: Path  # the directory
    state: str  # see ``run_status.state_of``
    status: dict[str, Any]  # content of ``status.json``
    config: dict[str, Any]  # as saved; {} if it cannot be read. Nothing in it is called
    overrides: list[str] | None  # from the command line, as Hydra saved them; None if the run was not started by Hydra
    summary: dict[str, Any]  # the row of ``summary.csv`` without its empty cells
    environment: dict[str, Any]  # content of ``environment.json``
    metrics: pd.DataFrame | None  # a row per epoch
    steps: pd.DataFrame | None  # a row per optimizer step
    schedule: pd.DataFrame | None  # the planned learning rate of each step
    predictions: pd.DataFrame | None  # a row per test image
    per_class: pd.DataFrame | None  # a row per class
    confusion: pd.DataFrame | None  # names in the first column, then a column of counts for each class
    gradcam: pd.DataFrame | None  # a row per image, layer and target
    calibration: pd.DataFrame | None  # a row per group of images of about the same confidence
    label_issues: pd.DataFrame | None  # a row per test image whose label is probably wrong, the most suspicious first
    # (N, C) of the test images, with a row per prediction and a column per class
    probabilities: NDArray[np.float32] | None
    faithfulness: pd.DataFrame | None  # a row per layer and target; None for a run that did not test its maps
    images: KeptImages | None  # those kept for the page
    log_tail: str  # the last lines of ``run.log``
    files: list[str]  # beside the page, relative to the directory
    problems: list[str] = field(default_factory=list)  # a line for each file that cannot be read, with the reason

    def number(self, column: str) -> float | None:
        """A number of ``summary.csv``; None if it was not measured."""
        value = self.summary.get(column)
        return float(value) if isinstance(value, Real) and math.isfinite(value) else None

    def setting(self, key: str) -> Any:
        """A leaf of the config by its dotted key; None if it does not exist."""
        return flatten(self.config).get(key)

    @property
    def class_names(self) -> list[str]:
        """In the order of the labels; [] if they are unknown."""
        if self.confusion is not None:
            return [str(name) for name in self.confusion.iloc[:, 0]]
        return [] if self.per_class is None else [str(name) for name in self.per_class["class"]]


def read_run(path: Path, *, at_work: bool = False) -> RunDirectory:
    """Read everything that the page needs.

    ``at_work`` means that the run is this process's own, whose lock need not be checked.

    Raises:
        RequestError: ``path`` is not a run directory.
    """
    require_run(path, "status.json", "config_resolved.yaml")
    problems: list[str] = []

    def read(name: str, read_file: Callable[[Path], T], default: T) -> T:
        return _read_file(path, name, read_file, default, problems)

    def table(name: str, needed: Sequence[str]) -> pd.DataFrame | None:
        return read(f"{name}.csv", lambda file: _read_float_table(file, needed), None)

    status: dict[str, Any] = read("status.json", untrusted.read_json, {})
    return RunDirectory(
        path=path,
        state="running" if at_work and status.get("state") == "running" else run_status.state_of(path, status),
        status=status,
        config=read("config_resolved.yaml", _read_config, {}),
        overrides=read(".hydra/overrides.yaml", read_overrides, None),
        summary=read("summary.csv", _read_summary, {}),
        environment=read("environment.json", untrusted.read_json, {}),
        confusion=read("confusion.csv", _read_confusion, None),
        probabilities=read(PROBABILITIES, read_probabilities, None),
        images=read(IMAGES_FILE, read_images, None),
        log_tail=read("run.log", _read_log_tail, ""),
        files=_list_files(path),
        problems=problems,
        **{name: table(name, needed) for name, needed in _TABLES.items()},
    )


def require_run(path: Path, *names: str) -> None:
    """Refuse a path that is not a directory with one of the named files."""
    try:
        kind = _file_type(path)
        has_records = kind == stat.S_IFDIR and any(_file_type(path / name) == stat.S_IFREG for name in names)
    except OSError as error:
        raise RequestError(f"{error.filename or path}: cannot be accessed: {error.strerror}") from error
    if kind != stat.S_IFDIR:
        raise RequestError(f"{path}: {'is a file, not a run directory' if kind else 'there is no such run'}")
    if not has_records:
        raise RequestError(f"{path}: not a run directory: it has no {' and no '.join(names)}")


def _file_type(path: Path) -> int | None:
    """Return the type of file at a path, as ``stat.S_IFMT`` returns it; None if the path does not exist."""
    status = untrusted.stat_if_there(path)
    return None if status is None else stat.S_IFMT(status.st_mode)


def _read_file(root: Path, name: str, read: Callable[[Path], T], default: T, problems: list[str]) -> T:
    """Read a file of a run with ``read``; return the default if it does not exist or, as a problem, cannot be read."""
    path = root / name
    try:
        if _file_type(path) != stat.S_IFREG:
            return default
        # A link in a directory that someone sent could put any of the reader's own files into the page.
        if not path.resolve().is_relative_to(root.resolve()):
            raise ValueError("it leads out of the run directory")
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES:,} bytes")
        return read(path)
    except (OSError, ValueError, OverflowError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        problems.append(f"{name}: cannot be read: " + reason.removeprefix(f"{path}: "))
        return default


def _read_float_table(path: Path, needed: Sequence[str], text: set[str] = _TEXT) -> pd.DataFrame | None:
    """Read a table whose columns but ``text`` are float64; None if it is empty."""
    table = tables.read_table(path, needed)
    for column in table.columns.difference(list(text), sort=False):
        numbers = pd.to_numeric(table[column], errors="coerce").astype(np.float64)
        table[column] = numbers.where(np.isfinite(numbers))
    if path.name == "predictions.csv":
        table["correct"] = table["correct"].astype(str).str.lower() == "true"
    return None if table.empty else table


def _read_confusion(path: Path) -> pd.DataFrame | None:
    table = _read_float_table(path, ("label",), text={"label"})
    if table is not None:
        counts = table.iloc[:, 1:].to_numpy()
        if counts.shape != (len(table), len(table)) or not ((counts >= 0) & (counts < _MOST_BYTES)).all():
            raise ValueError("it is not a square of counts")
    return table


def _read_summary(path: Path) -> dict[str, Any]:
    rows = tables.read_table(path, ("state",)).to_dict("records")[:1]
    return {str(name): current_cell(str(name), cell) for row in rows for name, cell in row.items() if not pd.isna(cell)}


def _list_files(root: Path) -> list[str]:
    paths: list[Path] = []
    for folder in (root, root / "figures", root / "checkpoints"):
        with suppress(OSError):  # missing, or no permission
            paths += folder.iterdir()
    return sorted(
        path.relative_to(root).as_posix()
        for path in paths
        # Not Path.is_file, which raises if a link leads into a folder without permission.
        if path.suffix in _LISTED_FILES and os.path.isfile(path) and not path.name.startswith(".")
    )


def _read_config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = with_current_targets(read_plain(path))
    str(config)  # fails for a hexadecimal number of thousands of digits, which can be read but not shown
    return config


def read_overrides(path: Path) -> list[str] | None:
    """The overrides in a file that Hydra saved; None if it cannot be read."""
    try:
        overrides = untrusted.read_yaml(path)
        return [str(one) for one in overrides] if isinstance(overrides, list) else None
    except (OSError, ValueError):
        return None


def _read_log_tail(path: Path) -> str:
    with untrusted.open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 2**15))
        lines = file.read(2**15).decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-_MOST_LOG_LINES:])
