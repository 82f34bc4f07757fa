"""The records of a sweep: its jobs (``sweep.json``) and how they ended (``sweep.csv``)."""

import contextlib
import logging
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_exp.errors import DONE, FAILED, RequestError
from cifar_exp.run_dir import lifecycle, run_status, tables
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.console import log_to_console
from cifar_exp.safe_io.untrusted import read_yaml
from cifar_exp.sweeps import RECORD, STOP_MARK
from cifar_exp.sweeps.grid import Request, Sweep, by_key, duplicates, settled

log = logging.getLogger(__name__)

SWEEP_COLUMNS = (
    "job",
    "run",
    "state",
    "error",
    "epochs_completed",
    "best_val_accuracy",
    "val_accuracy",
    "test_accuracy",
    "train_seconds",
    "total_seconds",
    "resumed",
)
_NOT_STARTED = "not started"


def begin(sweep: Sweep, request: Request) -> None:
    """Write down what the sweep is, for ``resume`` and for its table; log which jobs are the same."""
    log_to_console()
    known = [] if sweep.is_search else sweep.jobs
    for number, first in duplicates(known).items():
        log.warning("Job %d is the same as job %d: equal configs.", number, first)
    sweep.directory.mkdir(parents=True, exist_ok=True)
    (sweep.directory / STOP_MARK).unlink(missing_ok=True)
    config = sweep.jobs[0].config
    record = {
        "overrides": [settled(override, config) for override in request.overrides],
        "config_name": request.config_name,
        "config_dir": request.config_dir,
        "jobs": [
            {
                "job": job.number,
                "run": os.path.relpath(job.directory, sweep.directory),
                "overrides": job.overrides,
                "arguments": job.arguments,
            }
            for job in known
        ],
    }
    atomic.write_json(sweep.directory / RECORD, record)


def title_of(sweep_dir: Path, number: int, given: Sequence[str]) -> str:
    """A job's number and what is special about it, or all that it was given where the sweep does not know."""
    overrides = by_key(given)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = {job["job"]: job["overrides"] for job in atomic.read_json(sweep_dir / RECORD)["jobs"]}
        overrides = known.get(number, overrides)
    return " ".join([f"Job {number}:", *(f"{key}={value}" for key, value in overrides.items())])


def finish(sweep_dir: Path) -> int:
    """Write ``sweep.csv`` and the comparison, print the table; returns the exit code.

    Everything is read from the directories of the jobs: they may have run in other processes, on other machines.
    """
    log_to_console()
    with contextlib.suppress(OSError):
        (sweep_dir / STOP_MARK).unlink(missing_ok=True)
    rows = [_row(sweep_dir, job) for job in _recorded_jobs(sweep_dir)]
    varied = list(dict.fromkeys(key for row in rows for key in row if key not in SWEEP_COLUMNS))
    tables.write_table(sweep_dir / "sweep.csv", [*SWEEP_COLUMNS, *varied], rows)
    for line in _table(rows, varied):
        log.info(line)
    log.info(winner(rows, varied))
    if any(row["state"] == "completed" for row in rows):
        _compare(sweep_dir)
    log.info("Table: %s", Path(lifecycle.run_name(sweep_dir)) / "sweep.csv")
    unfinished = [row for row in rows if row["state"] not in ("completed", "diverged", "running")]
    if unfinished:
        log.info("`cifar-exp resume %s` completes the rest.", shlex.quote(lifecycle.run_name(sweep_dir)))
    return DONE if all(row["state"] in ("completed", "running") for row in rows) else FAILED


def _recorded_jobs(sweep_dir: Path) -> list[Mapping[str, Any]]:
    """The jobs as ``begin`` wrote them down; of a sweeper that makes them up as it goes, those that are there."""
    jobs: list[Mapping[str, Any]] = atomic.read_json(sweep_dir / RECORD)["jobs"]
    if jobs:
        return jobs
    found = [path.parent for path in sweep_dir.glob("*/status.json")]
    numbered = sorted((path for path in found if path.name.isdecimal()), key=lambda path: int(path.name))
    return [{"job": int(path.name), "run": path.name, "overrides": _given(path)} for path in numbered]


def _given(run: Path) -> dict[str, str]:
    """The overrides that Hydra wrote down for a job."""
    try:
        return by_key([str(item) for item in read_yaml(run / ".hydra" / "overrides.yaml")])
    except (OSError, ValueError, TypeError):
        return {}


def _row(sweep_dir: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    run = sweep_dir / job["run"]
    row = {"job": job["job"], "run": job["run"], "state": _NOT_STARTED, **job["overrides"]}
    with contextlib.suppress(OSError, ValueError):
        status = run_status.read_status(run)
        row["state"] = run_status.job_state(run) or "failed"
        row["error"] = status.get("error")
        row["epochs_completed"] = status.get("epochs_completed")
        row["resumed"] = len(run_status.resumptions(status))
        if row["state"] == "interrupted" and status["state"] == "running":
            row["error"] = "killed"
            run_status.update_status(run, status, state="interrupted", error="killed", finished_at=run_status.now())
    if row["state"] == "completed":
        with contextlib.suppress(OSError, ValueError, TypeError, IndexError, OverflowError):
            summary = tables.read_table(run / "summary.csv").iloc[0]
            measured = ("best_val_accuracy", "val_accuracy", "test_accuracy", "train_seconds", "total_seconds")
            there = {name: float(summary[name]) for name in measured if name in summary}
            row |= {name: value for name, value in there.items() if math.isfinite(value)}
    return row


def _table(rows: Sequence[Mapping[str, Any]], varied: Sequence[str]) -> list[str]:
    """The jobs as lines of a table."""
    head = ["job", *varied, "state", "done", "val acc.", "test acc.", "time", ""]
    body = [
        [
            str(row["job"]),
            *(str(row.get(key, "")) for key in varied),
            row["state"],
            str(row.get("epochs_completed", "")),
            _percent(row.get("val_accuracy")),
            _percent(row.get("test_accuracy")),
            duration(row["total_seconds"]) if "total_seconds" in row else "",
            _short(row.get("error")),
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, *body]
    ]


def duration(seconds: float) -> str:
    """A time as a person would say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _short(error: Any) -> str:
    lines = str(error or "").splitlines()
    text = lines[0] if lines else ""
    return text if len(text) <= 70 else text[:69] + "…"


def winner(rows: Sequence[Mapping[str, Any]], varied: Sequence[str]) -> str:
    """Which job is the best on the validation split, and what it does on the test split, in a sentence.

    The test split takes no part in the choice: the best of many test accuracies would be too high.
    """
    measured = [row for row in rows if row.get("val_accuracy") is not None]
    if not measured:
        return "No winner: no completed job has a validation accuracy."
    best = max(measured, key=lambda row: row["val_accuracy"])
    equal = [row["job"] for row in measured if row["val_accuracy"] == best["val_accuracy"] and row is not best]
    what = " ".join(f"{key}={best[key]}" for key in varied if key in best)
    also = f" (as good there: job {', '.join(map(str, equal))})" if equal else ""
    test = best.get("test_accuracy")
    return (
        f"Best on the validation split: job {best['job']}{f' ({what})' if what else ''} with "
        f"{best['val_accuracy']:.2%}{also}; its test accuracy is {'not recorded' if test is None else f'{test:.2%}'}."
    )


def _compare(sweep_dir: Path) -> None:
    from cifar_exp.compare.compare_runs import compare_runs

    out = sweep_dir / "comparison"
    try:
        compare_runs([sweep_dir], out, command=shlex.join(["cifar-exp", "compare", str(sweep_dir), "--out", str(out)]))
    except (RequestError, OSError) as error:
        log.warning("The jobs could not be compared: %s", error)
    else:
        log.info("Comparison: %s", lifecycle.run_name(out))
