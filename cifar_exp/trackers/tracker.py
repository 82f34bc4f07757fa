"""The interface of a tracker, and the records of a run as scalars with names and steps."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from cifar_exp.run_dir import tables


class Tracker(Protocol):
    """A run in a tracking library. Methods may raise any error, which ``tracked`` turns into a warning."""

    def after_epoch(self) -> None:
        """Log the rows that were not logged yet."""

    def end(self, state: str) -> None:
        """Log the remaining rows, the summary and the figures; ``state`` is the run's final state."""


@dataclass(frozen=True)
class Scalar:
    """One number of a CSV: its name in the tracker, its optimizer step and its value."""

    name: str
    step: int
    value: float


class Unread:
    """The rows of ``metrics.csv`` and ``steps.csv`` that were not read yet.

    Args:
        out_dir: the run directory.
        after_step: optimizer step up to which rows count as read, by file name.
    """

    _PREFIXES = (("metrics.csv", ""), ("steps.csv", "steps/"))

    def __init__(self, out_dir: Path, after_step: dict[str, int] | None = None) -> None:
        self._out_dir = out_dir
        self._last = {name: (after_step or {}).get(name, 0) for name, _ in self._PREFIXES}

    def scalars(self) -> Iterator[Scalar]:
        """Their cells without the empty ones, in the order of the rows."""
        for name, prefix in self._PREFIXES:
            if not (self._out_dir / name).exists():
                continue
            table = tables.read_table(self._out_dir / name)
            new = table[table["step"] > self._last[name]]
            for row in new.to_dict("records"):
                yield from (
                    Scalar(f"{prefix}{column}", int(row["step"]), float(value))
                    for column, value in row.items()
                    if (prefix == "" or column != "epoch") and column != "step" and not math.isnan(value)
                )
            if len(new):
                self._last[name] = int(new["step"].iloc[-1])

    @property
    def last_step(self) -> int:
        """The step of the last row of ``metrics.csv`` that was read; 0 before the first."""
        return self._last["metrics.csv"]


def summary(out_dir: Path) -> tuple[dict[str, float], dict[str, str]]:
    """The measured columns of ``summary.csv``, numbers and texts apart; empty if the run has no summary."""
    if not (out_dir / "summary.csv").exists():
        return {}, {}
    row = tables.read_table(out_dir / "summary.csv").iloc[0]
    measured = {
        str(name): value for name, value in row.items() if not str(name).startswith("config.") and pd.notna(value)
    }
    numbers = {name: float(value) for name, value in measured.items() if not isinstance(value, str)}
    return numbers, {name: value for name, value in measured.items() if isinstance(value, str)}


def figures(out_dir: Path) -> list[Path]:
    """The run's figures, by name."""
    return sorted((out_dir / "figures").glob("*.png"))


def as_scalar(value: Any) -> Any:
    """A config's leaf as a number, boolean or text; lists and null become text."""
    return value if isinstance(value, bool | int | float | str) else "null" if value is None else str(value)
