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
        try:
            return float(value) if isinstance(value, Real) and math.isfinite(value) else None
        except OverflowError:  # a whole number of hundreds of digits
            return None

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
    reader = _Reader(path)
    status = reader.mapping("status.json")
    summary = reader.table("summary.csv", ("state",))
    confusion = reader.table("confusion.csv", ("label",), text={"label"})
    if confusion is not None and not _is_confusion(confusion):
        reader.add_problem("confusion.csv", "it is not a square of counts")
        confusion = None
    predictions = reader.table("predictions.csv", tables.PREDICTIONS_COLUMNS)
    return RunDirectory(
        path=path,
        state="running" if at_work and status.get("state") == "running" else run_status.state_of(path, status),
        status=status,
        config=reader.read("config_resolved.yaml", _config, {}),
        overrides=reader.read(".hydra/overrides.yaml", read_overrides, None),
        summary={} if summary is None else _filled_cells(summary),
        environment=reader.mapping("environment.json"),
        metrics=reader.table("metrics.csv", ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")),
        steps=reader.table("steps.csv", ("step", "learning_rate", "loss")),
        schedule=reader.table("schedule.csv", ("step", "learning_rate")),
        predictions=predictions,
        per_class=reader.table("per_class.csv", ("class", "images", "correct", "accuracy")),
        confusion=confusion,
        gradcam=reader.table("gradcam.csv", tables.GRADCAM_COLUMNS_0_1),
        calibration=reader.table("calibration.csv", tables.CALIBRATION_COLUMNS),
        label_issues=reader.table("label_issues.csv", tables.LABEL_ISSUES_COLUMNS),
        probabilities=reader.read(PROBABILITIES, read_probabilities, None),
        faithfulness=reader.table("faithfulness.csv", tables.FAITHFULNESS_COLUMNS),
        images=reader.read(IMAGES_FILE, read_images, None),
        log_tail=reader.read("run.log", _log_tail, ""),
        files=reader.files(),
        problems=reader.problems,
    )


def require_run(path: Path, *names: str) -> None:
    """Refuse a path that is not a directory with one of the named files."""
    try:
        kind = _kind(path)
        has_records = kind == stat.S_IFDIR and any(_kind(path / name) == stat.S_IFREG for name in names)
    except OSError as error:
        raise RequestError(f"{error.filename or path}: cannot be accessed: {error.strerror}") from error
    if kind != stat.S_IFDIR:
        raise RequestError(f"{path}: {'is a file, not a run directory' if kind else 'there is no such run'}")
    if not has_records:
        raise RequestError(f"{path}: not a run directory: it has no {' and no '.join(names)}")


def _kind(path: Path) -> int | None:
    """The type of file at a path, as ``stat.S_IFMT`` returns it; None if the path does not exist."""
    status = untrusted.stat_if_there(path)
    return None if status is None else stat.S_IFMT(status.st_mode)


def _is_confusion(table: pd.DataFrame) -> bool:
    counts = table.iloc[:, 1:].to_numpy()
    return counts.shape == (len(table), len(table)) and bool(((counts >= 0) & (counts < _MOST_BYTES)).all())


def _filled_cells(table: pd.DataFrame) -> dict[str, Any]:
    return {str(name): current_cell(str(name), value) for name, value in table.iloc[0].items() if not pd.isna(value)}


class _Reader:
    """Reads files of one directory and collects the problems. A link that leads out of it is not read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []

    def add_problem(self, name: str, reason: object) -> None:
        text = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
        self.problems.append(f"{name}: cannot be read: " + text.removeprefix(f"{self.root / name}: "))

    def read(self, name: str, read: Callable[[Path], T], default: T) -> T:
        """What ``read`` returns for a file; the default if there is no such file, or none that can be read."""
        path = self.root / name
        try:
            if _kind(path) != stat.S_IFREG:
                return default
            # A link in a directory that someone sent could put any of the reader's own files into the page.
            if not path.resolve().is_relative_to(self.root.resolve()):
                raise ValueError("it leads out of the run directory")
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError(f"it is larger than {_MOST_BYTES:,} bytes")
            return read(path)
        except (OSError, ValueError, OverflowError) as error:
            self.add_problem(name, error)
            return default

    def table(self, name: str, needed: Sequence[str], text: set[str] = _TEXT) -> pd.DataFrame | None:
        return self.read(name, lambda path: _table(path, needed, text), None)

    def mapping(self, name: str) -> dict[str, Any]:
        return self.read(name, untrusted.read_json, {})

    def files(self) -> list[str]:
        kinds = {".csv", ".json", ".yaml", ".log", ".png", ".diff", ".pt", ".npz"}
        found: list[Path] = []
        for folder in (self.root, self.root / "figures", self.root / "checkpoints"):
            with suppress(OSError):  # missing, or no permission
                found += folder.iterdir()
        return sorted(
            path.relative_to(self.root).as_posix()
            for path in found
            # Not Path.is_file, which raises if a link leads into a folder without permission.
            if path.suffix in kinds and os.path.isfile(path) and not path.name.startswith(".")
        )


def _table(path: Path, needed: Sequence[str], text: set[str]) -> pd.DataFrame | None:
    """A table whose columns but ``text`` are float64; None if it is empty.

    Raises:
        OverflowError: a whole number is larger than any float64.
    """
    table = tables.read_table(path, needed)
    if path.name != "summary.csv":
        for column in table.columns.difference(list(text), sort=False):
            numbers = pd.to_numeric(table[column], errors="coerce").astype(np.float64)
            table[column] = numbers.where(np.isfinite(numbers))
    if path.name == "predictions.csv":
        table["correct"] = table["correct"].astype(str).str.lower() == "true"
    return None if table.empty else table


def _config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = with_current_targets(read_plain(path))
    str(config)  # fails for a hexadecimal number of thousands of digits, which can be read but not shown
    return config


def read_overrides(path: Path) -> list[str] | None:
    """The overrides in a file that Hydra saved; None if it cannot be read."""
    with suppress(OSError, ValueError):
        overrides = untrusted.read_yaml(path)
        return [str(one) for one in overrides] if isinstance(overrides, list) else None
    return None


def _log_tail(path: Path) -> str:
    with untrusted.open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 2**15))
        lines = file.read(2**15).decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-_MOST_LOG_LINES:])
