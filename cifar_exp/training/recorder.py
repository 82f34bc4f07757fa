"""What training appends to the run directory after each epoch."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status, tables

log = logging.getLogger(__name__)

Row = Mapping[str, Any]


class Recorder:
    """Appends to ``metrics.csv`` and ``steps.csv`` and updates ``status.json``, whose content is ``status``.

    Without a ``status`` nothing is written, as on all ranks but rank 0.
    """

    def __init__(self, config: ExperimentConfig, out_dir: Path, status: dict[str, Any] | None) -> None:
        raw = ["val_accuracy_raw", "test_accuracy_raw"] if config.averaging.name != "none" else []
        norm = ["gradient_norm"] if config.optimizer.clip_grad_norm is not None else []
        # A selection metric of the standard columns is there once.
        self._metrics_columns = tuple(dict.fromkeys([*tables.METRICS_COLUMNS, *raw, config.selection_metric]))
        self._steps_columns = (*tables.STEPS_COLUMNS, *norm)
        self._out_dir, self._status = out_dir, status

    def append_steps(self, rows: Sequence[Row]) -> None:
        """Append rows to ``steps.csv``."""
        if self._status is not None:
            tables.append_rows(self._out_dir / "steps.csv", self._steps_columns, rows)

    def append_epoch(self, row: Row) -> None:
        """Append a row to ``metrics.csv``."""
        if self._status is not None:
            tables.append_rows(self._out_dir / "metrics.csv", self._metrics_columns, [row])

    def set_epochs_completed(self, epochs: int) -> None:
        """Update ``status.json``."""
        if self._status is not None:
            run_status.update_status(self._out_dir, self._status, epochs_completed=epochs)

    def restore(self, epochs: int) -> list[Row]:
        """Drop the rows of later epochs, and return the rows of ``metrics.csv``.

        Raises:
            RequestError: a table is damaged or lacks epochs.
        """
        if self._status is None:
            return []
        metrics = self._out_dir / "metrics.csv"
        try:
            for path in (self._out_dir / "steps.csv", metrics):
                tables.keep_epochs(path, epochs)
            rows = tables.metrics_rows(metrics)
        except (ValueError, IndexError) as error:
            raise RequestError(f"{self._out_dir}: metrics.csv or steps.csv is damaged: {error}") from error
        if len(rows) != epochs:
            raise RequestError(f"{metrics}: has {len(rows)} of the {epochs} epochs in checkpoints/last.pt")
        self.set_epochs_completed(epochs)
        return rows
