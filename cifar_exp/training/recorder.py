"""What training appends to the run directory after each epoch."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status, tables

log = logging.getLogger(__name__)

Row = Mapping[str, Any]


class Recorder:
    """Appends to ``metrics.csv`` and ``steps.csv`` and updates ``status.json``; disabled on all ranks but rank 0.

    ``status`` is the content of ``status.json``, changed in place.
    """

    def __init__(
        self,
        out_dir: Path,
        status: dict[str, Any],
        *,
        enabled: bool,
        more_metrics: Sequence[str] = (),
        more_steps: Sequence[str] = (),
    ) -> None:
        self._metrics_columns = (*tables.METRICS_COLUMNS, *more_metrics)
        self._steps_columns = (*tables.STEPS_COLUMNS, *more_steps)
        self._out_dir = out_dir
        self._status = status
        self._enabled = enabled

    def append_steps(self, rows: Sequence[Row]) -> None:
        """Append rows to ``steps.csv``."""
        if self._enabled:
            tables.append_rows(self._out_dir / "steps.csv", self._steps_columns, rows)

    def append_epoch(self, row: Row) -> None:
        """Append a row to ``metrics.csv``."""
        if self._enabled:
            tables.append_rows(self._out_dir / "metrics.csv", self._metrics_columns, [row])

    def set_epochs_completed(self, epochs: int) -> None:
        """Update ``status.json``."""
        if self._enabled:
            run_status.update_status(self._out_dir, self._status, epochs_completed=epochs)

    def restore(self, epochs: int) -> list[Row]:
        """Drop the rows of later epochs, and return the rows of ``metrics.csv``.

        Raises:
            RequestError: a table is damaged or lacks epochs.
        """
        if not self._enabled:
            return []
        metrics = self._out_dir / "metrics.csv"
        try:
            for path in (self._out_dir / "steps.csv", metrics):
                tables.keep_epochs(path, epochs)
            rows = tables.metrics_rows(metrics)
        except ValueError as error:
            raise RequestError(f"{self._out_dir}: metrics.csv or steps.csv is damaged: {error}") from error
        if len(rows) != epochs:
            raise RequestError(f"{metrics}: has {len(rows)} of the {epochs} epochs in checkpoints/last.pt")
        self.set_epochs_completed(epochs)
        return rows
