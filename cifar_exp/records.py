"""Every file of a run directory: fixed columns, atomic writes, reading back.

A file is either its old or its new version, never half of one: whole files are written beside their place and
renamed onto it; rows are appended by a single write that is taken back if it could not be finished.
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

METRICS_COLUMNS = (
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "test_loss",
    "test_accuracy",
    "train_seconds",
    "eval_seconds",
    "images_per_second",
)
STEPS_COLUMNS = ("step", "epoch", "learning_rate", "momentum", "loss")
SUMMARY_COLUMNS = (
    "run",
    "state",
    "epochs_completed",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "test_loss",
    "test_accuracy",
    "best_epoch",
    "best_val_accuracy",
    "generalization_gap",
    "misclassified",
    "parameters",
    "total_seconds",
    "train_seconds",
    "images_per_second",
    "peak_memory_bytes",
    "device",
    "precision",
    "git_commit",
    "data_fingerprint",
    "selection_split",
    "schedule_steps_planned",
    "schedule_steps_used",
    "peak_learning_rate",
    "schedule",
    "test_loss_as_published",
)
PREDICTIONS_COLUMNS = ("index", "source", "label", "prediction", "confidence", "correct")
PER_CLASS_COLUMNS = ("class_index", "class", "images", "correct", "accuracy", "predicted", "precision")
GRADCAM_COLUMNS = (
    "index",
    "label",
    "prediction",
    "target",
    "layer",
    "map_height",
    "map_width",
    "peak_row",
    "peak_column",
    "deletion_drop",
    "random_drop",
)

# Columns of names: `0010` and `1e5` are not numbers there, and `null` is not a missing value.
_TEXT_COLUMNS = (
    "run",
    "state",
    "source",
    "label",
    "prediction",
    "class",
    "target",
    "layer",
    "git_commit",
    "device",
)

STATES = ("running", "completed", "failed", "diverged", "interrupted")


def write_bytes(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` so that a reader, or a crash, sees the old file or the new one.

    Raises:
        OSError: the content could not be written; the old file, if any, is untouched.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """``write_bytes`` for text, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """``write_bytes`` for a mapping of plain values."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole CSV. A column that a row lacks, or whose value is None, is an empty cell.

    Raises:
        ValueError: a row has a column that is not in ``columns``.
    """
    write_text(path, _csv_text(rows, columns, header=True))


def append_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows to a CSV, making it with its header first where there is none.

    The rows arrive whole or not at all: if the disk fills up in the middle, the part is cut off again.

    Raises:
        OSError: the rows could not be written.
    """
    if not path.exists():
        write_table(path, columns, rows)
        return
    content = _csv_text(rows, columns, header=False).encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, content)
            if written != len(content):
                raise OSError(28, "No space left on device", str(path))
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV of a run directory. Names stay text; empty cells are missing values.

    Raises:
        OSError: there is no such file.
        ValueError: it is not a CSV (pandas' parser errors are ValueErrors).
    """
    columns = pd.read_csv(path, nrows=0).columns
    # A loss can be `nan`; a class can be named so.
    missing = {name: [""] if name in _TEXT_COLUMNS or name.startswith("config.") else ["", "nan"] for name in columns}
    return pd.read_csv(path, keep_default_na=False, na_values=missing, dtype=dict.fromkeys(_TEXT_COLUMNS, str))


def _csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, header: bool) -> str:
    text = io.StringIO()
    # csv writes floats by repr(): the shortest text that reads back to the same bits.
    writer = csv.DictWriter(text, columns, extrasaction="raise", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def now() -> str:
    """The present, in UTC, as ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat()


def is_taken(directory: Path) -> bool:
    """Whether a directory holds a run; one that failed before its first step leaves nothing to keep."""
    if not (directory / "status.json").exists():
        return False
    try:
        state = json.loads((directory / "status.json").read_text(encoding="utf-8"))["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return state != "failed" or (directory / "steps.csv").exists()


def claim(directory: Path, config_hash: str) -> dict[str, Any]:
    """Take a directory for a run by making its ``status.json``; two runs never share one.

    Returns:
        The status, for ``update_status``.

    Raises:
        FileExistsError: the directory holds a run already; nothing in it was touched.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not is_taken(directory):
        (directory / "status.json").unlink(missing_ok=True)
    status = {
        "state": "running",
        "error": None,
        "started_at": now(),
        "finished_at": None,
        "epochs_completed": 0,
        "config_hash": config_hash,
    }
    # An exclusive create is the one step of which exactly one of two processes can succeed.
    with (directory / "status.json").open("x", encoding="utf-8") as file:
        file.write(json.dumps(status, indent=2) + "\n")
    return status


def update_status(directory: Path, status: dict[str, Any], **changes: Any) -> None:
    """Change ``status`` in place and in ``status.json``."""
    status |= changes
    write_json(directory / "status.json", status)
