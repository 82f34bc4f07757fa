"""What training appends to the run directory after each epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status, tables

Row = Mapping[str, Any]


class Recorder:
    """Appends to ``metrics.csv`` and ``steps.csv`` and updates ``status.json``, whose content is ``status``.

    Without a ``status`` nothing is written, as on all ranks but rank 0.
    """

    def __init__(self, config: ExperimentConfig, out_dir: Path, status: dict[str, Any] | None) -> None:
        raw = ["val_accuracy_raw", "test_accuracy_raw"] if config.averaging.name != "none" else []
        norm = ["gradient_norm"] if config.optimizer.clip_grad_norm is not None else []
        self._columns = {
            # A selection metric of the standard columns is there once.
            "metrics.csv": tuple(dict.fromkeys([*tables.METRICS_COLUMNS, *raw, config.selection_metric])),
            "steps.csv": (*tables.STEPS_COLUMNS, *norm),
        }
        self._absent: dict[str, set[str]] = {}  # columns that the tables of a resumed run lack
        self._out_dir, self._status = out_dir, status

    def append(self, table: str, rows: Sequence[Row]) -> None:
        """Append rows to ``metrics.csv`` or ``steps.csv``, without columns that an earlier version's table lacks."""
        if self._status is not None:
            columns: Sequence[str] = self._columns[table]
            if absent := self._absent.get(table):
                columns = [name for name in columns if name not in absent]
                rows = [{name: value for name, value in row.items() if name not in absent} for row in rows]
            tables.append_rows(self._out_dir / table, columns, rows)

    def set_epochs_completed(self, epochs: int) -> None:
        """Update ``status.json``."""
        if self._status is not None:
            run_status.update_status(self._out_dir, self._status, epochs_completed=epochs)

    def restore(self, epochs: int) -> list[Row]:
        """Drop the rows of later epochs, and return the rows of ``metrics.csv``.

        Raises:
            RequestError: a table is damaged, lacks epochs, or has columns that this version does not know.
        """
        if self._status is None:
            return []
        try:
            for table, columns in self._columns.items():
                self._absent[table] = tables.keep_epochs(self._out_dir / table, columns, epochs)
            rows = tables.metrics_rows(self._out_dir / "metrics.csv")
        except (ValueError, IndexError) as error:
            raise RequestError(f"{self._out_dir}: metrics.csv or steps.csv cannot be continued: {error}") from error
        if len(rows) != epochs:
            raise RequestError(f"{self._out_dir}: metrics.csv has {len(rows)} of the {epochs} epochs in last.pt")
        self.set_epochs_completed(epochs)
        return rows
