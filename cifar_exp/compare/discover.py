"""Find run directories under any paths and read thousands of them at once.

A run directory is one that holds ``status.json`` or ``summary.csv``. What is in them may have been written by an older
version, cut off by a full disk or made up by someone else, so every file is parsed as data and none is trusted to
be whole: a run that cannot be read stays in the list, with its problem.
"""

import os
import re
import stat
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_exp.config.aliases import current_cell, with_current_targets
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status
from cifar_exp.safe_io.untrusted import (
    MOST_COLUMNS,
    displayable,
    read_json,
    read_rows,
    read_yaml,
    spreadsheet_text,
    stat_if_there,
)
from cifar_exp.training.lr_range_test import FILE as RANGE_TEST

_MOST_OF_AN_ERROR = 2000  # characters

# What a run keeps below its own directory; no other run is looked for in there.
_OWN_FOLDERS = {"checkpoints", "figures"}
RUN_FILES = ("status.json", "summary.csv")  # a directory that holds one of them is a run's


def find_runs(paths: Sequence[Path]) -> tuple[list[Path], list[Path], list[str]]:
    """Find every run directory at or under ``paths``; each once, however many ways lead to it.

    Symbolic links are followed, loops included. Hidden folders are left out.

    Returns:
        The directories in natural order (job 2 before job 10), those directories, runs or not, that hold a range
        test's ``lr_find.csv``, and remarks about what could not be searched.

    Raises:
        RequestError: a path that does not exist or is a file, or no run under any of them.
    """
    found: list[str] = []
    tests: list[str] = []
    remarks: list[str] = []
    seen: set[tuple[int, int]] = set()
    for path in paths:
        status = status_of(path)
        if status is None:
            raise RequestError(f"{path}: no such folder; name run directories or folders above them")
        if not stat.S_ISDIR(status.st_mode):
            raise RequestError(f"{path}: is a file; name the run directory that it lies in, or a folder above")
        before = len(found), len(tests)
        already = _search(os.path.abspath(path), seen, found, tests, remarks)
        if (len(found), len(tests)) == before and not already:
            remarks.append(f"No run under {path}.")
    if not found:
        raise RequestError(
            f"{', '.join(map(str, paths))}: no run there; a run directory holds status.json or summary.csv"
        )
    return _in_order(found), _in_order(tests), remarks


def status_of(path: Path, named: str = "") -> os.stat_result | None:
    """What lies at a path that the user named; None if nothing does.

    Args:
        path: of it.
        named: what stands before the path in a message, such as ``--out ``.

    Raises:
        RequestError: the system does not say: a folder above is not readable, the name is too long.
    """
    try:
        return stat_if_there(path)
    except OSError as error:
        raise RequestError(f"{named}{path}: cannot be looked at ({error.strerror})") from error


def _in_order(paths: list[str]) -> list[Path]:
    return [Path(path) for path in sorted(paths, key=natural)]


def _search(top: str, seen: set[tuple[int, int]], found: list[str], tests: list[str], remarks: list[str]) -> bool:
    """Append the runs and range tests at or under ``top``; returns whether ``top`` had been searched before."""
    waiting, again = [top], False
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                again |= folder == top
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                here = list(entries)
        except OSError as error:
            remarks.append(f"{folder}: cannot be searched ({error.strerror}).")
            continue
        is_run = any(entry.name in RUN_FILES for entry in here)
        if is_run:
            found.append(folder)
        if any(entry.name == RANGE_TEST for entry in here):
            tests.append(folder)
        waiting += [
            entry.path
            for entry in here
            if not entry.name.startswith(".")
            and not (is_run and entry.name in _OWN_FOLDERS)
            and _is_folder(entry, remarks)
        ]
    return again


def _is_folder(entry: "os.DirEntry[str]", remarks: list[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # a link to itself, or into a folder that is not readable
        remarks.append(f"{entry.path}: cannot be searched ({error.strerror}).")
        return False


def natural(text: str) -> list[tuple[int, str] | str]:
    """Sort key that counts: ``job/2`` comes before ``job/10``."""
    # A number by its length and digits, for Python makes no int of thousands of digits.
    return [
        (len(part.lstrip("0")), part.lstrip("0")) if position % 2 else part
        for position, part in enumerate(re.split(r"([0-9]+)", text))
    ]


def read_runs(directories: Sequence[Path]) -> pd.DataFrame:
    """Read status and summary of each run directory.

    Returns:
        A row per directory, in order. ``path``, ``run`` (the path, relative to the current folder where it lies below
        it), ``state``, ``error`` (what the run recorded) and ``problem`` (what is wrong with its files; None
        if nothing), then the union of the columns of all ``summary.csv``s, as the text that stands there. A cell
        is missing where a run has no such column; so are empty cells, except those of ``config.*``, where
        empty means null.
    """
    # One frame for each header that occurs: ten thousand small frames would take minutes to put together.
    by_header: dict[tuple[str, ...], tuple[list[int], list[list[str]]]] = {}
    own: list[tuple[str, str, str, str | None, str | None]] = []
    columns: set[str] = set()
    here = os.getcwd() + os.sep
    for position, directory in enumerate(directories):
        path = str(directory)
        try:
            state, error, problem, header, row = _read_run(path)
        except Exception as unexpected:  # whatever a file makes a library raise, the other runs are compared
            state, error, header, row = "unknown", None, (), []
            problem = f"cannot be read ({type(unexpected).__name__}: {unexpected})"[:_MOST_OF_AN_ERROR]
        if len(columns | set(header)) > MOST_COLUMNS:
            problem, header, row = f"its columns would make more than {MOST_COLUMNS:,} in all", (), []
        columns |= set(header)
        own.append((path, displayable(path.removeprefix(here)), state, error, problem))
        positions, rows = by_header.setdefault(header, ([], []))
        positions.append(position)
        rows.append(row)
    frames = [_frame(header, positions, rows) for header, (positions, rows) in by_header.items()]
    joined = pd.concat(frames).sort_index().drop(columns=["run", "state", "error", "path", "problem"], errors="ignore")
    mine = pd.DataFrame(own, columns=["path", "run", "state", "error", "problem"], dtype=object)
    return pd.concat([mine, joined], axis=1)


def _read_run(path: str) -> tuple[str, str | None, str | None, tuple[str, ...], list[str]]:
    """State, error and problem of a run, and the header and row of its summary, else of its config."""
    status, status_problem = _read_status(path)
    header, row, summary_problem = _read_summary(path)
    if header is None:
        header, row = config_as_row(path)
    state = status.get("state") or dict(zip(header, row, strict=True)).get("state") or "unknown"
    return state, status.get("error"), _first(status_problem, summary_problem, status), header, row


def _frame(header: tuple[str, ...], positions: list[int], rows: list[list[str]]) -> pd.DataFrame:
    measured = [place for place, column in enumerate(header) if not column.startswith("config.")]
    cells: list[list[str | None]] = [list(row) for row in rows]
    for row in cells:
        for place in measured:
            row[place] = row[place] or None
    return pd.DataFrame(cells, index=positions, columns=list(header), dtype=object)


def _first(status_problem: str | None, summary_problem: str | None, status: dict[str, Any]) -> str | None:
    """The problem to tell. That a run which is still going, or was killed, has no summary yet is none."""
    if summary_problem == _MISSING and status.get("state") not in (None, "completed"):
        summary_problem = None
    if status_problem == _MISSING:
        status_problem = None
    if status_problem:
        return f"status.json: {status_problem}"
    return f"summary.csv: {summary_problem}" if summary_problem else None


_MISSING = "there is none"


def _read_status(directory: str) -> tuple[dict[str, Any], str | None]:
    try:
        status = read_json(f"{directory}/status.json")
    except FileNotFoundError:
        return {}, _MISSING
    except (OSError, ValueError) as error:
        return {}, f"cannot be read ({error})"
    if not isinstance(status, dict) or status.get("state") not in run_status.STATES:
        return {}, f"its state must be one of {', '.join(run_status.STATES)}"
    told = status.get("error")
    text = None if told is None else str(told)[:_MOST_OF_AN_ERROR]
    return {"state": run_status.state_of(Path(directory), status), "error": text}, None


def _read_summary(directory: str) -> tuple[tuple[str, ...] | None, list[str], str | None]:
    """Header, row and problem of ``summary.csv``; the header is None where there is no whole row."""
    try:
        lines = list(islice(read_rows(f"{directory}/summary.csv"), 3))
    except FileNotFoundError:
        return None, [], _MISSING
    except (OSError, ValueError) as error:
        return None, [], f"cannot be read ({error})"
    if not lines:
        return None, [], "is empty"
    if len(lines) != 2:
        return None, [], f"has {'more than one row' if len(lines) > 2 else 'no row'} below its header"
    header, row = ([spreadsheet_text(cell) for cell in line] for line in lines)
    if len(row) != len(header):
        return None, [], f"is cut off: {len(row)} of {len(header)} cells are there"
    if len(set(header)) != len(header):
        return None, [], "names a column twice"
    return tuple(header), [current_cell(column, cell) for column, cell in zip(header, row, strict=False)], None


def config_as_row(directory: str) -> tuple[tuple[str, ...], list[str]]:
    """The saved config as ``summary.csv`` would hold it, for a run that has not got that far, or a range test."""
    from cifar_exp.config.parse import flatten

    try:
        leaves = flatten(with_current_targets(read_yaml(f"{directory}/config_resolved.yaml")))
    except (OSError, ValueError):
        return (), []
    if "" in leaves:  # not a mapping
        return (), []
    values = ["" if value is None else str(value) for value in leaves.values()]
    return tuple(f"config.{key}" for key in leaves), values


def fingerprint_of(directory: Path) -> str | None:
    """The data fingerprint in ``environment.json``; None where there is none to read."""
    try:
        fingerprint = read_json(directory / "environment.json")["data_fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return fingerprint if isinstance(fingerprint, str) else None


def short_names(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that all paths share, and each path's name below it; a path that is that folder keeps its own name."""
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    return shared, [displayable(path[len(shared) :].lstrip(os.sep)) for path in paths]
