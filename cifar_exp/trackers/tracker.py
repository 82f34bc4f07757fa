"""The interface of a tracker, which logs the tables of a run directory: numbers by name for each optimizer step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_exp.config.parse import flatten
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.run_dir import tables


class Tracker(ABC):
    """Logs one run to a tracking library. Methods may raise any error, which ``tracked`` turns into a warning.

    Args:
        out_dir: the run directory.
        last_logged_steps: the last logged step of each file; None before the first.
    """

    _PREFIXES = {"metrics.csv": "", "steps.csv": "steps/"}  # noqa: RUF012

    def __init__(self, out_dir: Path, last_logged_steps: dict[str, int] | None = None) -> None:
        self.out_dir = out_dir
        self._last_logged = dict.fromkeys(self._PREFIXES, 0) | (last_logged_steps or {})

    @abstractmethod
    def log(self, rows: Sequence[tuple[int, dict[str, float]]]) -> None:
        """Log rows (step, {name: value}), in ascending order of steps."""

    @abstractmethod
    def log_and_close(self, state: str, numbers: dict[str, float], texts: dict[str, str], figures: list[Path]) -> None:
        """Log the summary and the figures of a run that ended in ``state``."""

    def after_epoch(self) -> None:
        """Log the rows that were not logged yet."""
        new = [pd.DataFrame()]
        for name, prefix in self._PREFIXES.items():
            if (self.out_dir / name).exists():
                table = tables.read_table(self.out_dir / name).set_index("step")
                rows = table[table.index > self._last_logged[name]]
                self._last_logged[name] = int(max(self._last_logged[name], *rows.index, 0))
                new.append(rows.drop(columns="epoch" if prefix else []).add_prefix(prefix).astype(float))
        by_step: Any = pd.concat(new, axis=1).sort_index()
        self.log([(int(step), row.dropna().to_dict()) for step, row in by_step.iterrows()])

    def finish(self, state: str) -> None:
        """Log the remaining rows, the summary and the figures; ``state`` is the run's final state."""
        self.after_epoch()
        numbers, texts = read_summary(self.out_dir)
        figures = sorted((self.out_dir / "figures").glob("*.png"))
        self.log_and_close(state, numbers, texts | {"state": state}, figures)

    @property
    def last_step(self) -> int:
        """The last logged step of ``metrics.csv``; 0 before the first."""
        return self._last_logged["metrics.csv"]


def read_summary(out_dir: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Return the columns of ``summary.csv`` without ``config.``: the numbers, and the texts."""
    if not (out_dir / "summary.csv").exists():
        return {}, {}
    row = tables.read_table(out_dir / "summary.csv").iloc[0]
    measured = {
        str(name): value for name, value in row.items() if not str(name).startswith("config.") and pd.notna(value)
    }
    numbers = {name: float(value) for name, value in measured.items() if not isinstance(value, str)}
    return numbers, {name: value for name, value in measured.items() if isinstance(value, str)}


def config_as_scalars(config: ExperimentConfig) -> dict[str, Any]:
    """Flatten the config to its leaves by dotted key: numbers, booleans or text; lists and null become text."""
    leaves = flatten(config).items()
    return {
        key: value if isinstance(value, bool | int | float | str) else "null" if value is None else str(value)
        for key, value in leaves
    }
