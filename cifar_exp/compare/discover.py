"""Find run directories under any paths and read thousands of them at once.

A run directory is one that holds ``status.json`` or ``summary.csv``. These may be of an older version, cut off by a
full disk or a stranger's, so they are only parsed as data. A run that cannot be read is listed with its problem.
"""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_exp.config.version_0_1 import current_cell, with_current_targets
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

_MAX_ERROR_CHARACTERS = 2000

# Folders of a run directory in which no other run is searched for.
_OWN_FOLDERS = {"checkpoints", "figures"}
RUN_FILES = ("status.json", "summary.csv")


def find_runs(paths: Sequence[Path]) -> tuple[list[Path], list[Path], list[str]]:
    """Find every run directory at or under ``paths``; each once, however many ways lead to it.

    Symbolic links are followed, loops included. Hidden folders are left out.

    Returns:
        The run directories in natural order (job 2 before job 10), the directories that hold the ``lr_find.csv`` of
        an LR range test, and remarks about folders that cannot be searched.

    Raises:
        RequestError: a path does not exist or is a file, or there is no run under any of them.
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
            raise RequestError(f"{path}: is a file; name its run directory or a folder above")
        before = len(found), len(tests)
        already = _search(os.path.abspath(path), seen, found, tests, remarks)
        if (len(found), len(tests)) == before and not already:
            remarks.append(f"No run under {path}.")
    if not found:
        raise RequestError(
            f"{', '.join(map(str, paths))}: no run found; a run directory holds status.json or summary.csv"
        )
    return _in_order(found), _in_order(tests), remarks


def status_of(path: Path, named: str = "") -> os.stat_result | None:
    """The status of a path from the command line; None if it does not exist.

    Args:
        path: of a file or folder.
        named: the option before the path in a message, such as ``--out ``.

    Raises:
        RequestError: the path cannot be accessed, for example without permission or if it is too long.
    """
    try:
        return stat_if_there(path)
    except OSError as error:
        raise RequestError(f"{named}{path}: cannot be accessed: {error.strerror}") from error


def _in_order(paths: list[str]) -> list[Path]:
    return [Path(path) for path in sorted(paths, key=natural)]


def _search(top: str, seen: set[tuple[int, int]], found: list[str], tests: list[str], remarks: list[str]) -> bool:
    """Append the runs and LR range tests at or under ``top``; returns whether ``top`` was searched before."""
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
    """Sort key by which ``job/2`` comes before ``job/10``."""
    # Numbers as length and digits: Python converts no more than 4,300 digits to int.
    return [
        (len(part.lstrip("0")), part.lstrip("0")) if position % 2 else part
        for position, part in enumerate(re.split(r"([0-9]+)", text))
    ]


def read_runs(directories: Sequence[Path]) -> pd.DataFrame:
    """Read status and summary of each run directory.

    Returns:
        A row per directory, in order. ``path``, ``run`` (the path, relative to the current folder if it lies below it),
        ``state``, ``error`` (from the run's status) and ``problem`` (why its files cannot be read; None if they can),
        then the union of the columns of all ``summary.csv``s, as text. A cell is missing if the run has no such
        column or the cell is empty; an empty cell of ``config.*`` stays, as it means null.
    """
    here = os.getcwd() + os.sep
    own: list[list[str | None]] = []
    # One frame for each header that occurs: concatenating ten thousand small frames would take minutes.
    by_header: dict[tuple[str, ...], tuple[list[int], list[list[str]]]] = {}
    for position, path in enumerate(map(str, directories)):
        try:
            state, error, problem, header, row = _read_run(path)
        except Exception as unexpected:  # whatever a file makes a library raise, the other runs are compared
            state, error, header, row = "unknown", None, (), []
            problem = f"cannot be read ({type(unexpected).__name__}: {unexpected})"[:_MAX_ERROR_CHARACTERS]
        own.append([path, displayable(path.removeprefix(here)), state, error, problem])
        positions, rows = by_header.setdefault(header, ([], []))
        positions.append(position)
        rows.append(row)
    fitting = _fitting(by_header)
    frames = []
    for header, (positions, rows) in by_header.items():
        if header in fitting:
            frames.append(_frame(header, positions, rows))
            continue
        frames.append(pd.DataFrame(index=positions))
        for position in positions:
            own[position][-1] = f"its columns would make more than {MOST_COLUMNS:,} in all"
    joined = pd.concat(frames).sort_index().drop(columns=["run", "state", "error", "path", "problem"], errors="ignore")
    mine = pd.DataFrame(own, columns=["path", "run", "state", "error", "problem"], dtype=object)
    return pd.concat([mine, joined], axis=1)


def _fitting(headers: Iterable[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """The headers that together have no more than ``MOST_COLUMNS``: short ones first, long ones only if they fit in."""
    fitting: set[tuple[str, ...]] = set()
    columns: set[str] = set()
    for header in sorted(headers, key=len):
        if len(columns.union(header)) <= MOST_COLUMNS:
            columns.update(header)
            fitting.add(header)
    return fitting


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
    """The problem to report. A missing summary is none if the run is not completed."""
    if summary_problem == _MISSING and status.get("state") not in (None, "completed"):
        summary_problem = None
    if status_problem == _MISSING:
        status_problem = None
    if status_problem:
        return f"status.json: {status_problem}"
    return f"summary.csv: {summary_problem}" if summary_problem else None


_MISSING = "is missing"


def _read_status(directory: str) -> tuple[dict[str, Any], str | None]:
    try:
        status = run_status.read_status(Path(directory))
    except FileNotFoundError:
        return {}, _MISSING
    except (OSError, ValueError) as error:
        return {}, f"cannot be read ({error})"
    recorded = status.get("error")
    text = recorded[:_MAX_ERROR_CHARACTERS] if isinstance(recorded, str) else None
    return {"state": run_status.state_of(Path(directory), status), "error": text}, None


def _read_summary(directory: str) -> tuple[tuple[str, ...] | None, list[str], str | None]:
    """Header, row and problem of ``summary.csv``; the header is None if it has no whole row."""
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
        return None, [], f"is cut off after {len(row)} of {len(header)} cells"
    if len(set(header)) != len(header):
        return None, [], "names a column twice"
    return tuple(header), [current_cell(column, cell) for column, cell in zip(header, row, strict=False)], None


def config_as_row(directory: str) -> tuple[tuple[str, ...], list[str]]:
    """The saved config as columns of ``summary.csv``, for a run without a summary or an LR range test."""
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
    """The data fingerprint in ``environment.json``; None if it cannot be read."""
    try:
        fingerprint = read_json(directory / "environment.json")["data_fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return fingerprint if isinstance(fingerprint, str) else None


def short_names(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that all paths share, and the name of each path below it."""
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    return shared, [displayable(path[len(shared) :].lstrip(os.sep)) for path in paths]
