"""The tables of a run directory: their columns, how they are written, appended to and read.

Rows are appended by a single write, which is undone if the disk is full. An unfinished row that a killed process left
at the end of a table is not read, and dropped when the run is resumed.
"""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cifar_exp.safe_io import untrusted
from cifar_exp.safe_io.atomic import write_bytes, write_text
from cifar_exp.safe_io.untrusted import spreadsheet_safe, spreadsheet_text

if TYPE_CHECKING:
    import pandas as pd

# fmt: off
METRICS_COLUMNS = (
    "epoch", "step", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss",
    "test_accuracy", "train_seconds", "eval_seconds", "images_per_second",
)
TIMING_COLUMNS = ("train_seconds", "eval_seconds", "images_per_second")  # of metrics.csv; they differ from run to run
STEPS_COLUMNS = ("step", "epoch", "learning_rate", "momentum", "loss")
SCHEDULE_COLUMNS = ("step", "learning_rate")
SUMMARY_COLUMNS = (
    "run", "state", "epochs_completed", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss",
    "test_accuracy", "best_epoch", "best_val_accuracy", "generalization_gap", "misclassified", "parameters",
    "total_seconds", "train_seconds", "images_per_second", "peak_memory_bytes", "device", "precision", "git_commit",
    "data_fingerprint", "selection_split", "schedule_steps_planned", "schedule_steps_used", "peak_learning_rate",
    "schedule", "test_loss_as_published", "max_lr_used", "test_accuracy_tta",
    "val_images", "ece", "brier", "temperature", "ece_calibrated", "top5_accuracy", "balanced_accuracy", "macro_f1",
)
LR_FIND_COLUMNS = ("step", "learning_rate", "loss", "smoothed_loss")
PREDICTIONS_COLUMNS = ("index", "source", "label", "prediction", "confidence", "correct")
PER_CLASS_COLUMNS = ("class_index", "class", "images", "correct", "accuracy", "predicted", "precision", "f1")
CALIBRATION_COLUMNS = (
    "bin", "images", "lowest_confidence", "highest_confidence", "mean_confidence", "accuracy", "accuracy_low",
    "accuracy_high",
)
LABEL_ISSUES_COLUMNS = ("rank", "index", "source", "label", "suggested", "label_probability", "suggested_probability")
GRADCAM_COLUMNS_0_1 = (
    "index", "label", "prediction", "target", "layer", "map_height", "map_width", "peak_row", "peak_column",
    "deletion_drop", "random_drop",
)
GRADCAM_COLUMNS = (*GRADCAM_COLUMNS_0_1, "attended_drop", "control_drop")
FAITHFULNESS_COLUMNS = (
    "layer", "target", "map_height", "map_width", "n", "infill", "attended_drop", "control_drop", "difference",
    "ci_low", "ci_high", "verdict", "rank_correlation_reinitialized",
)

# Columns of names: `0010` and `1e5` are not numbers there, and `null` is not a missing value.
_TEXT_COLUMNS = (
    "run", "state", "source", "label", "prediction", "suggested", "class", "target", "layer", "infill", "verdict",
    "git_commit", "device",
)
# fmt: on

# Tables that grow during a run; all others are written whole.
_APPENDED = ("metrics.csv", "steps.csv")

_MOST_TABLE_BYTES = 2 * 2**30  # ten million steps take 0.6 GB


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole CSV; a missing value and None become an empty cell. Other columns raise a ValueError."""
    write_text(path, _csv_text(rows, columns, header=True))


def append_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows to a CSV, which is created with its header if it does not exist.

    All rows are written or none: if the disk fills up, the written part is cut off again.

    Raises:
        OSError: the rows could not be written.
    """
    content = _csv_text(rows, columns, header=False).encode()
    try:
        # A link could lead out of the run directory.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    except FileNotFoundError:
        write_table(path, columns, rows)
        return
    try:
        size = os.fstat(descriptor).st_size
        try:
            rest = memoryview(content)
            while rest:  # usually one write; on a full disk the next one raises the error
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except BaseException:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def keep_epochs(path: Path, columns: Sequence[str], epochs: int) -> set[str]:
    """Drop the rows of later epochs, and an unfinished last row, from ``metrics.csv`` or ``steps.csv``.

    Returns the ``columns`` that the table lacks, because an earlier version wrote it.

    Raises:
        OSError: the file could not be written; it is unchanged.
        ValueError, IndexError: it is not such a table, or has columns that are not in ``columns``.
    """
    if not path.exists():
        return set()
    content = untrusted.read_bytes(path, _MOST_TABLE_BYTES)
    header, *rows = _whole_rows(content).splitlines(keepends=True) or [b"epoch"]
    own = header.decode().rstrip().split(",")
    if "epoch" not in own or own != [name for name in columns if name in own]:
        raise ValueError("its columns are not those that this version of cifar-exp writes")
    place = own.index("epoch")
    kept = [row for row in rows if int(row.split(b",")[place]) <= epochs]
    if not kept:
        path.unlink()
        return set()
    if (whole := b"".join([header, *kept])) != content:
        write_bytes(path, whole)
    return set(columns) - set(own)


def _whole_rows(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def metrics_rows(path: Path) -> list[Mapping[str, float | int | None]]:
    """The rows of ``metrics.csv`` with the values that were written; [] if there is no file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not such a table.
    """
    if not path.exists():
        return []
    header, *rows = untrusted.read_rows(path)

    def number(cell: str) -> float | int | None:
        return None if not cell else int(cell) if cell.isdecimal() else float(cell)

    return [dict(zip(header, map(number, row), strict=True)) for row in rows]


def read_table(path: Path, needed: Sequence[str] = ()) -> "pd.DataFrame":
    """Read a CSV of a run directory. Names stay text; empty cells are missing values.

    Of a table that is still growing, only whole rows are read.

    Raises:
        OSError: there is no such file, or it is not a regular one.
        ValueError: it is not a CSV (pandas' parser errors are ValueErrors), too large, or lacks a needed column.
    """
    try:
        content = untrusted.read_bytes(path, _MOST_TABLE_BYTES)
        untrusted.check_header(content)
        table = _parsed(_whole_rows(content) if path.name in _APPENDED else content)
    except MemoryError as error:
        raise ValueError("it does not fit into memory") from error
    if absent := [column for column in needed if column not in table.columns]:
        raise ValueError(f"it has no column {', '.join(absent)}")
    return table


_LARGEST_WHOLE = 2**64  # beyond it pandas keeps Python's integers, which can be too large for a float


def _parsed(content: bytes) -> "pd.DataFrame":
    import pandas as pd  # not at the top, as a run only writes tables before and during training

    columns = pd.read_csv(io.BytesIO(content), nrows=0).columns
    # A loss can be `nan`, but a class can have that name.
    text = {name for name in columns if name in _TEXT_COLUMNS or name.startswith("config.")}
    missing = {name: [""] if name in text else ["", "nan"] for name in columns}
    types = dict.fromkeys(_TEXT_COLUMNS, str)
    table = pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=missing, dtype=types)
    for name in table.columns[[not pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes]]:
        if any(isinstance(cell, str) and cell.startswith("'") for cell in table[name]):
            table[name] = table[name].map(lambda cell: spreadsheet_text(cell) if isinstance(cell, str) else cell)
        if any(isinstance(cell, int) and abs(cell) > _LARGEST_WHOLE for cell in table[name]):
            raise ValueError(f"column {name}: a whole number of more than {_LARGEST_WHOLE.bit_length()} bits")
    return table.rename(columns=spreadsheet_text)


def _csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, header: bool) -> str:
    lines: list[str] = []
    # csv writes floats by repr(): the shortest text that reads back to the same bits. It must end lines in CR LF, or
    # it does not quote a CR within a cell; the file's lines end in LF.
    writer = csv.DictWriter(SimpleNamespace(write=lines.append), columns)
    if header:
        writer.writer.writerow([spreadsheet_safe(name) for name in columns])
    for row in rows:
        writer.writerow({key: spreadsheet_safe(one) if isinstance(one, str) else one for key, one in row.items()})
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)
