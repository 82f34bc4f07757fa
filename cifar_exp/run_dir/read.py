"""What a run directory holds, as far as it can be read: it may be unfinished, damaged, or a stranger's."""

import math
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifar_exp.config.aliases import current_cell
from cifar_exp.config.parse import flatten
from cifar_exp.config.resolved import read_plain
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status, tables
from cifar_exp.run_dir.kept_images import FILE as IMAGES_FILE
from cifar_exp.run_dir.kept_images import KeptImages, read_images
from cifar_exp.safe_io import untrusted

_MOST_BYTES = 2**28  # of one file; steps.csv of a million steps has 60 MB
_MOST_LOG_LINES = 40

# Text columns aside, a cell that is no finite number is as good as empty.
_TEXT = {"source", "label", "prediction", "class", "target", "layer", "correct"}


@dataclass(frozen=True)
class RunDirectory:
    """The records of a run. A table is None where there is none that can be read.

    Attributes:
        path: the directory.
        state: one of ``run_status.STATES``, or ``unknown``; ``running`` only where a process is at work on it.
        status: of ``status.json``.
        config: as saved; empty where it cannot be read. Nothing in it is called.
        overrides: what was typed, as Hydra saved it; None where the run was not started by Hydra.
        summary: the row of ``summary.csv``; cells that are empty are left out.
        environment: of ``environment.json``.
        metrics: a row per epoch.
        steps: a row per optimizer step.
        schedule: the planned learning rate of each step.
        predictions: a row per test image.
        per_class: a row per class.
        confusion: names in the first column, then a column of counts for each class.
        gradcam: a row per image, layer and target.
        faithfulness: a row per layer and target; None for a run that did not test its maps.
        images: those kept for the page.
        log_tail: the last lines of ``run.log``.
        files: what there is beside the page, relative to the directory.
        problems: what could not be read, and why, in a line each.
    """

    path: Path
    state: str
    status: dict[str, Any]
    config: dict[str, Any]
    overrides: list[str] | None
    summary: dict[str, Any]
    environment: dict[str, Any]
    metrics: pd.DataFrame | None
    steps: pd.DataFrame | None
    schedule: pd.DataFrame | None
    predictions: pd.DataFrame | None
    per_class: pd.DataFrame | None
    confusion: pd.DataFrame | None
    gradcam: pd.DataFrame | None
    faithfulness: pd.DataFrame | None
    images: KeptImages | None
    log_tail: str
    files: list[str]
    problems: list[str] = field(default_factory=list)

    def number(self, column: str) -> float | None:
        """A number of ``summary.csv``; None where it was not measured."""
        value = self.summary.get(column)
        try:
            return float(value) if isinstance(value, Real) and math.isfinite(value) else None
        except OverflowError:  # a whole number of hundreds of digits
            return None

    def setting(self, key: str) -> Any:
        """A leaf of the config by its dotted key; None where there is none."""
        return flatten(self.config).get(key)

    @property
    def class_names(self) -> list[str]:
        """In the order of the labels; empty where they are not known."""
        if self.confusion is not None:
            return [str(name) for name in self.confusion.iloc[:, 0]]
        return [] if self.per_class is None else [str(name) for name in self.per_class["class"]]


def read_run(path: Path, *, at_work: bool = False) -> RunDirectory:
    """Read everything that the page needs.

    Args:
        path: the directory.
        at_work: whether the run is this process's own, so that there is no need to ask who is at work on it.

    Raises:
        RequestError: ``path`` is not a run directory.
    """
    try:
        kind = _kind(path)
        has_records = kind == stat.S_IFDIR and any(
            _kind(path / name) == stat.S_IFREG for name in ("status.json", "config_resolved.yaml")
        )
    except OSError as error:
        raise RequestError(f"{error.filename or path}: cannot be looked at: {error.strerror}") from error
    if kind != stat.S_IFDIR:
        raise RequestError(f"{path}: {'is a file, not a run directory' if kind else 'there is no such run'}")
    if not has_records:
        raise RequestError(f"{path}: not a run directory: it has neither status.json nor config_resolved.yaml")
    reader = _Reader(path)
    status = reader.mapping("status.json")
    summary = reader.table("summary.csv", ("state",))
    confusion = reader.table("confusion.csv", ("label",), text={"label"})
    if confusion is not None and not _is_confusion(confusion):
        reader.gave_up("confusion.csv", "it is not a square of counts")
        confusion = None
    return RunDirectory(
        path=path,
        state="running" if at_work and status.get("state") == "running" else run_status.state_of(path, status),
        status=status,
        config=reader.config(),
        overrides=reader.overrides(),
        summary={} if summary is None else _filled_cells(summary),
        environment=reader.mapping("environment.json"),
        metrics=reader.table("metrics.csv", ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")),
        steps=reader.table("steps.csv", ("step", "learning_rate", "loss")),
        schedule=reader.table("schedule.csv", ("step", "learning_rate")),
        predictions=reader.table("predictions.csv", tables.PREDICTIONS_COLUMNS),
        per_class=reader.table("per_class.csv", ("class", "images", "correct", "accuracy")),
        confusion=confusion,
        gradcam=reader.table("gradcam.csv", tables.GRADCAM_COLUMNS_0_1),
        faithfulness=reader.table("faithfulness.csv", tables.FAITHFULNESS_COLUMNS),
        images=reader.images(),
        log_tail=reader.log_tail(),
        files=reader.files(),
        problems=reader.problems,
    )


def _kind(path: Path) -> int | None:
    """What is there, as ``stat.S_IFMT`` names it; see ``untrusted.stat_if_there``."""
    status = untrusted.stat_if_there(path)
    return None if status is None else stat.S_IFMT(status.st_mode)


def _is_confusion(table: pd.DataFrame) -> bool:
    counts = table.iloc[:, 1:].to_numpy()
    return counts.shape == (len(table), len(table)) and bool(((counts >= 0) & (counts < _MOST_BYTES)).all())


def _filled_cells(table: pd.DataFrame) -> dict[str, Any]:
    # The text `schedule` and the config's leaves stand beside numbers here, so types are taken as they come.
    return {str(name): current_cell(str(name), value) for name, value in table.iloc[0].items() if not pd.isna(value)}


class _Reader:
    """Reads files of one directory, noting what it cannot read. A file that leads out of it is not read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []

    def gave_up(self, name: str, why: object) -> None:
        text = str(why).splitlines()[0] if str(why) else type(why).__name__
        self.problems.append(f"{name}: cannot be read: " + text.removeprefix(f"{self.root / name}: "))

    def _path(self, name: str) -> Path | None:
        path = self.root / name
        try:
            if _kind(path) != stat.S_IFREG:
                return None
            # A link in a directory that someone sent could put any of the reader's own files into the page.
            if not path.resolve().is_relative_to(self.root.resolve()):
                self.gave_up(name, "it leads out of the run directory")
                return None
            if path.stat().st_size > _MOST_BYTES:
                self.gave_up(name, f"it is larger than {_MOST_BYTES:,} bytes")
                return None
        except OSError as error:  # the folder that it is in, or leads to, is closed to this user
            self.gave_up(name, error)
            return None
        return path

    def table(self, name: str, needed: Sequence[str], text: set[str] | None = None) -> pd.DataFrame | None:
        path = self._path(name)
        if path is None:
            return None
        try:
            table = tables.read_table(path)
            if name != "summary.csv":
                self._make_numbers(table, _TEXT if text is None else text)
        except (OSError, ValueError, OverflowError) as error:
            self.gave_up(name, error)
            return None
        if absent := [column for column in needed if column not in table.columns]:
            self.gave_up(name, f"it has no column {', '.join(absent)}")
            return None
        if table.empty:
            return None
        if "correct" in table.columns and name == "predictions.csv":
            table["correct"] = table["correct"].astype(str).str.lower() == "true"
        return table

    @staticmethod
    def _make_numbers(table: pd.DataFrame, text: set[str]) -> None:
        """Make float64 of all columns but ``text``, in place.

        Raises:
            OverflowError: a whole number is larger than any float64.
        """
        for column in table.columns:
            if column not in text:
                numbers = pd.to_numeric(table[column], errors="coerce").astype(np.float64)
                table[column] = numbers.where(np.isfinite(numbers))

    def mapping(self, name: str) -> dict[str, Any]:
        path = self._path(name)
        try:
            content = {} if path is None else untrusted.read_json(path)
        except (OSError, ValueError) as error:
            self.gave_up(name, error)
            return {}
        return content if isinstance(content, dict) else {}

    def config(self) -> dict[str, Any]:
        path = self._path("config_resolved.yaml")
        try:
            config = {} if path is None else read_plain(path)
            str(config)  # a whole number in hexadecimal can be read, but not shown, where it has thousands of digits
        except (RequestError, ValueError) as error:
            self.gave_up("config_resolved.yaml", error)
            return {}
        return config

    def overrides(self) -> list[str] | None:
        path = self._path(".hydra/overrides.yaml")
        try:
            typed = None if path is None else untrusted.read_yaml(path)
            return [str(one) for one in typed] if isinstance(typed, list) else None
        except (OSError, ValueError):
            return None

    def images(self) -> KeptImages | None:
        path = self._path(IMAGES_FILE)
        try:
            return None if path is None else read_images(path)
        except (OSError, ValueError) as error:
            self.gave_up(IMAGES_FILE, error)
            return None

    def log_tail(self) -> str:
        path = self._path("run.log")
        if path is None:
            return ""
        try:
            with untrusted.open_regular(path) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2**15))
                lines = file.read(2**15).decode("utf-8", "replace").splitlines()
        except OSError as error:
            self.gave_up("run.log", error)
            return ""
        return "\n".join(lines[-_MOST_LOG_LINES:])

    def files(self) -> list[str]:
        kinds = {".csv", ".json", ".yaml", ".log", ".png", ".diff", ".pt"}
        found: list[Path] = []
        for folder in (self.root, self.root / "figures", self.root / "checkpoints"):
            try:
                found += folder.iterdir()
            except OSError:  # it is not there, or closed to this user
                continue
        return sorted(
            path.relative_to(self.root).as_posix()
            for path in found
            # os.path, for Path.is_file raises where a link leads into a folder that is closed to this user.
            if path.suffix in kinds and os.path.isfile(path) and not path.name.startswith(".")
        )
