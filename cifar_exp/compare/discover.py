"""Find run directories under any paths and read thousands of them at once.

A run directory contains ``status.json`` or ``summary.csv``. These files can be of an older version, cut off or
hostile, so they are only parsed as data. A run that cannot be read is listed with its problem.

``run_dir.read`` reads one run with all its records; this module reads two small files of each of thousands of runs.
"""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import pandas as pd

from cifar_exp.config.version_0_1 import current_cell, with_current_targets
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status
from cifar_exp.safe_io import untrusted
from cifar_exp.training.lr_range_test import FILE as RANGE_TEST

_MAX_ERROR_CHARACTERS = 2000

# Folders of a run directory in which no other run is searched for.
_OWN_FOLDERS = {"checkpoints", "figures"}
RUN_FILES = ("status.json", "summary.csv")
_OWN_COLUMNS = ["path", "run", "state", "error", "problem"]


def find_runs(paths: Sequence[Path]) -> tuple[list[Path], list[Path], list[str]]:
    """Find every run directory at or under ``paths``, each once.

    Symbolic links are followed, loops included. Hidden folders are skipped.

    Returns:
        The run directories in natural order (job 2 before job 10), the directories with the ``lr_find.csv`` of an
        LR range test, and remarks about folders that cannot be searched.

    Raises:
        RequestError: a path does not exist or is a file, or no path contains a run.
    """
    search = _Search()
    for path in paths:
        status = status_of(path)
        if status is None:
            raise RequestError(f"{path}: no such folder; name run directories or folders above them")
        if not stat.S_ISDIR(status.st_mode):
            raise RequestError(f"{path}: is a file; name its run directory or a folder above")
        before = len(search.runs) + len(search.range_tests)
        was_searched = (status.st_dev, status.st_ino) in search.seen
        search.descend(os.path.abspath(path))
        if len(search.runs) + len(search.range_tests) == before and not was_searched:
            search.remarks.append(f"No run under {path}.")
    if not search.runs:
        raise RequestError(
            f"{', '.join(map(str, paths))}: no run found; a run directory has status.json or summary.csv"
        )
    runs, tests = ([Path(path) for path in sorted(found, key=natural)] for found in (search.runs, search.range_tests))
    return runs, tests, search.remarks


def status_of(path: Path, named: str = "") -> os.stat_result | None:
    """The status of a path from the command line, which messages name after ``named``; None if it does not exist.

    Raises:
        RequestError: the path cannot be accessed, for example without permission or if it is too long.
    """
    try:
        return untrusted.stat_if_there(path)
    except OSError as error:
        raise RequestError(f"{named}{path}: cannot be accessed: {error.strerror}") from error


class _Search:
    """The run directories, LR range tests and unreadable folders found so far."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.range_tests: list[str] = []
        self.remarks: list[str] = []
        self.seen: set[tuple[int, int]] = set()

    def descend(self, top: str) -> None:
        """Search a folder and the folders below it."""
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in self.seen:
                    continue
                self.seen.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as entries:
                    here = list(entries)
            except OSError as error:
                self._add_remark(folder, error)
                continue
            names = {entry.name for entry in here}
            is_run = not names.isdisjoint(RUN_FILES)
            if is_run:
                self.runs.append(folder)
            if RANGE_TEST in names:
                self.range_tests.append(folder)
            skipped = _OWN_FOLDERS if is_run else ()
            waiting += [
                entry.path
                for entry in here
                if not entry.name.startswith(".") and entry.name not in skipped and self._is_folder(entry)
            ]

    def _is_folder(self, entry: "os.DirEntry[str]") -> bool:
        try:
            return entry.is_dir()
        except OSError as error:  # a link to itself, or into a folder without permission
            self._add_remark(entry.path, error)
            return False

    def _add_remark(self, path: str, error: OSError) -> None:
        self.remarks.append(f"{path}: cannot be searched ({error.strerror}).")


def natural(text: str) -> list[tuple[int, str] | str]:
    """Sort key that puts ``job/2`` before ``job/10``."""
    # Numbers as length and digits: Python converts at most 4,300 digits to int.
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
        column or the cell is empty; an empty cell of ``config.*`` stays, because it means null.
    """
    here = os.getcwd() + os.sep
    own: list[list[str | None]] = []
    # One frame per header: concatenating ten thousand small frames would take minutes.
    by_header: dict[tuple[str, ...], tuple[list[int], list[list[str | None]]]] = {}
    for position, path in enumerate(map(str, directories)):
        try:
            state, error, problem, summary = _read_run(path)
        except Exception as unexpected:  # one damaged run must not stop the comparison of the others
            state, error, summary = "unknown", None, {}
            problem = f"cannot be read ({type(unexpected).__name__}: {unexpected})"[:_MAX_ERROR_CHARACTERS]
        own.append([path, untrusted.displayable(path.removeprefix(here)), state, error, problem])
        positions, rows = by_header.setdefault(tuple(summary), ([], []))
        positions.append(position)
        rows.append([cell or ("" if column.startswith("config.") else None) for column, cell in summary.items()])
    fitting = _fitting(by_header)
    frames = []
    for header, (positions, rows) in by_header.items():
        if header in fitting:
            frames.append(pd.DataFrame(rows, index=positions, columns=list(header), dtype=object))
            continue
        frames.append(pd.DataFrame(index=positions))
        for position in positions:
            own[position][-1] = f"its columns would make more than {untrusted.MOST_COLUMNS:,} in all"
    joined = pd.concat(frames).sort_index().drop(columns=_OWN_COLUMNS, errors="ignore")
    return pd.concat([pd.DataFrame(own, columns=_OWN_COLUMNS, dtype=object), joined], axis=1)


def _fitting(headers: Iterable[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """The headers that together have at most ``MOST_COLUMNS``: short ones first, long ones only if they fit."""
    fitting: set[tuple[str, ...]] = set()
    columns: set[str] = set()
    for header in sorted(headers, key=len):
        if len(columns.union(header)) <= untrusted.MOST_COLUMNS:
            columns.update(header)
            fitting.add(header)
    return fitting


def _read_run(path: str) -> tuple[str, str | None, str | None, dict[str, str]]:
    """State, error and problem of a run, and its summary or, without one, its config."""
    status, state, problem = {}, None, None
    try:
        status = run_status.read_status(Path(path))
        state = run_status.state_of(Path(path), status)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        problem = f"status.json: cannot be read ({error})"
    try:
        summary = _read_summary(path)
    except FileNotFoundError:
        summary = read_config(path)
        if state in (None, "completed"):
            problem = problem or "summary.csv: is missing"
    except (OSError, ValueError) as error:
        summary = read_config(path)
        problem = problem or f"summary.csv: cannot be read ({error})"
    error_text = status.get("error")
    error_text = error_text[:_MAX_ERROR_CHARACTERS] if isinstance(error_text, str) else None
    return state or summary.get("state") or "unknown", error_text, problem, summary


def _read_summary(directory: str) -> dict[str, str]:
    """The row of ``summary.csv`` by column.

    Raises:
        OSError, ValueError: it does not exist, cannot be read, or has no complete row.
    """
    lines = list(islice(untrusted.read_rows(f"{directory}/summary.csv"), 3))
    if not lines:
        raise ValueError("it is empty")
    if len(lines) != 2:
        raise ValueError(f"it has {'more than one row' if len(lines) > 2 else 'no row'} below its header")
    header, row = ([untrusted.spreadsheet_text(cell) for cell in line] for line in lines)
    if len(row) != len(header):
        raise ValueError(f"it is cut off after {len(row)} of {len(header)} cells")
    if len(set(header)) != len(header):
        raise ValueError("it names a column twice")
    return {column: current_cell(column, cell) for column, cell in zip(header, row, strict=True)}


def read_config(directory: str) -> dict[str, str]:
    """The saved config as columns of ``summary.csv``; {} if it cannot be read."""
    from cifar_exp.config.parse import flatten

    try:
        leaves = flatten(with_current_targets(untrusted.read_yaml(f"{directory}/config_resolved.yaml")))
    except (OSError, ValueError):
        return {}
    if "" in leaves:  # not a mapping
        return {}
    return {f"config.{key}": "" if value is None else str(value) for key, value in leaves.items()}


def fingerprint_of(directory: Path) -> str | None:
    """The data fingerprint in ``environment.json``; None if it cannot be read."""
    try:
        fingerprint = untrusted.read_json(directory / "environment.json")["data_fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return fingerprint if isinstance(fingerprint, str) else None


def short_names(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that contains all paths, and the name of each path below it."""
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    return shared, [untrusted.displayable(path[len(shared) :].lstrip(os.sep)) for path in paths]
