"""The start and the end of a sweep: its record, then ``sweep.csv``, the printed table, the winner, the comparison."""

import contextlib
import logging
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import DONE, FAILED, RequestError
from cifar_exp.run_dir import lifecycle, run_status, tables
from cifar_exp.safe_io.console import log_to_console
from cifar_exp.safe_io.plural import duration
from cifar_exp.safe_io.untrusted import read_json
from cifar_exp.sweeps import RECORD, STOP_MARK
from cifar_exp.sweeps.grid import Request, Sweep, duplicates
from cifar_exp.sweeps.record import write_record

if TYPE_CHECKING:
    from cifar_exp.compare.comparison import Comparison

log = logging.getLogger(__name__)

_MEASURED = ("best_val_accuracy", "val_accuracy", "test_accuracy", "train_seconds", "total_seconds")
SWEEP_COLUMNS = ("job", "run", "state", "error", "epochs_completed", *_MEASURED, "resumed")
_LONGEST_ERROR = 70  # characters in the printed table


def begin(sweep: Sweep, request: Request) -> None:
    """Write the record of a sweep and warn about jobs with equal configs."""
    log_to_console()
    if not sweep.is_search:
        for number, first in duplicates(sweep.jobs).items():
            log.warning("Job %d is the same as job %d: equal configs.", number, first)
    sweep.directory.mkdir(parents=True, exist_ok=True)
    (sweep.directory / STOP_MARK).unlink(missing_ok=True)
    write_record(sweep, request)


def title_of(sweep_dir: Path, number: int) -> str:
    """A job's number, and its overrides by the sweep's record."""
    overrides: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        [overrides] = [job["overrides"] for job in read_json(sweep_dir / RECORD)["jobs"] if job["job"] == number]
    return " ".join([f"Job {number}:", *(f"{key}={value}" for key, value in overrides.items())])


def finish(sweep_dir: Path) -> int:
    """Write ``sweep.csv`` and the comparison, print the table; returns the exit code.

    Reads everything from the job directories: the jobs may have run in other processes, on other machines.
    """
    from cifar_exp.compare.render import as_text

    log_to_console()
    with contextlib.suppress(OSError):
        (sweep_dir / STOP_MARK).unlink(missing_ok=True)
    rows = [_row(sweep_dir, job) for job in read_json(sweep_dir / RECORD)["jobs"]]
    pruned_last = sorted(rows, key=lambda row: row["state"] == "pruned")
    varied = list(dict.fromkeys(key for row in rows for key in row if key not in SWEEP_COLUMNS))
    tables.write_table(sweep_dir / "sweep.csv", [*SWEEP_COLUMNS, *varied], rows)
    headings = ["job", *varied, "state", "done", "val acc.", "test acc.", "time", ""]
    log.info("%s", as_text((headings, [_cells(row, varied) for row in pruned_last])))
    comparison = _compare(sweep_dir) if any(row["state"] == "completed" for row in rows) else None
    best_run = None
    if comparison is not None and comparison.baseline is not None:
        best_run = os.path.relpath(comparison.runs["path"].iloc[comparison.baseline], sweep_dir)
    log.info(winner(rows, varied, best_run))
    shown = lifecycle.run_name(sweep_dir)
    log.info("Table: %s", Path(shown) / "sweep.csv")
    if comparison is not None:
        log.info("Comparison: %s", Path(shown) / "comparison")
    if any(row["state"] not in ("completed", "diverged", "pruned", "running") for row in rows):
        log.info("Run the remaining jobs with `cifar-exp resume %s`.", shlex.quote(shown))
    return DONE if all(row["state"] in ("completed", "pruned", "running") for row in rows) else FAILED


def _row(sweep_dir: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    run = sweep_dir / job["run"]
    row = {"job": job["job"], "run": job["run"], "state": "not started", **job["overrides"]}
    with contextlib.suppress(OSError, ValueError):
        status = run_status.read_status(run)
        row |= {key: status.get(key) for key in ("error", "epochs_completed")}
        row |= {"state": run_status.job_state(run) or "failed", "resumed": len(run_status.read_resumptions(status))}
        if row["state"] == "interrupted" and status["state"] == "running":
            row["error"] = "killed"
            run_status.update_status(run, status, state="interrupted", error="killed", finished_at=run_status.now())
    if row["state"] == "completed":
        with contextlib.suppress(OSError, ValueError, TypeError, IndexError, OverflowError):
            summary = tables.read_table(run / "summary.csv").iloc[0]
            values = {name: float(summary[name]) for name in _MEASURED if name in summary}
            row |= {name: value for name, value in values.items() if math.isfinite(value)}
    return row


def _cells(row: Mapping[str, Any], varied: Sequence[str]) -> list[str]:
    """A job's cells in the printed table."""
    error = (str(row.get("error") or "").splitlines() or [""])[0]
    return [
        str(row["job"]),
        *(str(row.get(key, "")) for key in varied),
        row["state"],
        str(row.get("epochs_completed", "")),
        *(f"{row[name]:.2%}" if name in row else "" for name in ("val_accuracy", "test_accuracy")),
        duration(row["total_seconds"]) if "total_seconds" in row else "",
        error if len(error) <= _LONGEST_ERROR else error[: _LONGEST_ERROR - 1] + "…",
    ]


def winner(rows: Sequence[Mapping[str, Any]], varied: Sequence[str], best_run: str | None = None) -> str:
    """A sentence on the best job by validation accuracy, with its test accuracy.

    The test split is not used for the choice: the best of many test accuracies would be too high. ``rows`` are the
    jobs, whose overrides differ in the keys ``varied``. Of equally good jobs, ``best_run`` wins, as in the comparison.
    """
    measured = [row for row in rows if row.get("val_accuracy") is not None]
    if not measured:
        return "No winner: no completed job has a validation accuracy."
    best = max(measured, key=lambda row: (row["val_accuracy"], row["run"] == best_run))
    equal = [str(row["job"]) for row in measured if row["val_accuracy"] == best["val_accuracy"] and row is not best]
    overrides = " ".join(f"{key}={best[key]}" for key in varied if key in best)
    tie = f" (tied with job {', '.join(equal)})" if equal else ""
    test = best.get("test_accuracy")
    return (
        f"Best on the validation split: job {best['job']}{f' ({overrides})' if overrides else ''} with "
        f"{best['val_accuracy']:.2%}{tie}; its test accuracy is {'not recorded' if test is None else f'{test:.2%}'}."
    )


def _compare(sweep_dir: Path) -> "Comparison | None":
    from cifar_exp.compare.compare_runs import compare_runs

    out = sweep_dir / "comparison"
    command = shlex.join(["cifar-exp", "compare", str(sweep_dir), "--out", str(out)])
    try:
        return compare_runs([sweep_dir], out, command=command).comparison
    except (RequestError, OSError) as error:
        log.warning("The jobs could not be compared: %s", error)
        return None
