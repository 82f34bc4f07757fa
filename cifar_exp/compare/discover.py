"""Find run directories under any paths and read thousands of them at once.

A run directory contains ``status.json`` or ``summary.csv``. These files can be of an older version, cut off or
hostile, so they are only parsed as data. A run that cannot be read is listed with its problem.

``run_dir.read`` reads one run with all its records; this module reads two small files of each of thousands of runs.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_exp.config.parse import flatten
from cifar_exp.config.version_0_1 import current_cell, with_current_targets
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status
from cifar_exp.safe_io import untrusted
from cifar_exp.training.lr_range_test import FILE as RANGE_TEST

_MAX_ERROR_CHARACTERS = 2000

# Folders of a run directory in which no other run is searched for.
_OWN_FOLDERS = {"checkpoints", "figures"}
RUN_FILES = ("status.json", "summary.csv")
OWN_COLUMNS = ["path", "run", "state", "error", "problem", "started_at", "epochs_in_status"]


def find_runs(paths: Sequence[Path]) -> tuple[list[Path], list[Path], list[str]]:
    """Find every run directory at or under ``paths``, each once.

    Symbolic links are followed, loops included. Hidden folders are skipped.

    Returns:
        The run directories in natural order (job 2 before job 10), the directories with the ``lr_find.csv`` of an
        LR range test, and remarks about folders that cannot be searched.

    Raises:
        RequestError: a path does not exist or is a file, or no path contains a run.
    """
    runs: list[str] = []
    range_tests: list[str] = []
    remarks: list[str] = []
    seen: set[tuple[int, int]] = set()
    for path in paths:
        status = status_of(path)
        if status is None:
            raise RequestError(f"{path}: no such folder; name run directories or folders above them")
        if not stat.S_ISDIR(status.st_mode):
            raise RequestError(f"{path}: is a file; name its run directory or a folder above")
        before = len(runs) + len(range_tests)
        was_searched = (status.st_dev, status.st_ino) in seen
        for folder, names in _walk(os.path.abspath(path), seen, remarks):
            runs += [] if names.isdisjoint(RUN_FILES) else [folder]
            range_tests += [folder] if RANGE_TEST in names else []
        if len(runs) + len(range_tests) == before and not was_searched:
            remarks.append(f"No run under {path}.")
    if not runs:
        raise RequestError(
            f"{', '.join(map(str, paths))}: no run found; a run directory has status.json or summary.csv"
        )
    return [*map(Path, sorted(runs, key=natural))], [*map(Path, sorted(range_tests, key=natural))], remarks


def _walk(top: str, seen: set[tuple[int, int]], remarks: list[str]) -> Iterator[tuple[str, set[str]]]:
    """Each folder at or below ``top`` that was not seen before, with the names in it; extends ``remarks``."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                here = list(entries)
        except (FileNotFoundError, NotADirectoryError):  # a link to nowhere or to a file
            continue
        except OSError as error:
            remarks.append(f"{folder}: cannot be searched ({error.strerror}).")
            continue
        names = {entry.name for entry in here}
        yield folder, names
        skipped = set() if names.isdisjoint(RUN_FILES) else _OWN_FOLDERS
        waiting += [
            entry.path
            for entry in here
            if not entry.name.startswith(".") and entry.name not in skipped
            if entry.is_symlink() or entry.is_dir(follow_symlinks=False)
        ]


def status_of(path: Path, named: str = "") -> os.stat_result | None:
    """The status of a path from the command line, which messages name after ``named``; None if it does not exist.

    Raises:
        RequestError: the path cannot be accessed, for example without permission or if it is too long.
    """
    try:
        return untrusted.stat_if_there(path)
    except OSError as error:
        raise RequestError(f"{named}{path}: cannot be accessed: {error.strerror}") from error


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
        A row per directory, in order: ``path``, ``run`` (the path, relative to the current folder if it lies below it),
        ``state``, ``error``, ``problem`` (why its files cannot be read; None if they can), ``started_at`` and
        ``epochs_in_status``, then the union of the columns of all ``summary.csv``s, as text. A cell is missing if the
        run has no such column or the cell is empty; an empty cell of ``config.*`` stays, because it means null.
    """
    here = os.getcwd() + os.sep
    own: list[dict[str, Any]] = []
    summaries: list[tuple[tuple[str, ...], list[str | None]]] = []  # columns and cells of each run
    headers: dict[tuple[str, ...], tuple[str, ...]] = {}  # thousands of runs share one
    for path in map(str, directories):
        try:
            from_files, summary = _read_run(path)
        except Exception as unexpected:  # one damaged run must not stop the comparison of the others
            problem = f"cannot be read ({type(unexpected).__name__}: {unexpected})"[:_MAX_ERROR_CHARACTERS]
            from_files, summary = {"state": "unknown", "problem": problem}, {}
        own.append({"path": path, "run": untrusted.displayable(path.removeprefix(here))} | from_files)
        cells = [cell or ("" if column.startswith("config.") else None) for column, cell in summary.items()]
        header = tuple(summary)
        summaries.append((headers.setdefault(header, header), cells))
    fitting: set[str] = set()
    excluded = set()
    for header in sorted(headers, key=len):  # so that absurdly many columns exclude their run only
        if len(fitting.union(header)) <= untrusted.MOST_COLUMNS:
            fitting.update(header)
        else:
            excluded.add(header)
    columns = dict.fromkeys(chain.from_iterable(header for header in headers if header not in excluded))
    table: dict[str, list[str | None]] = {column: [None] * len(own) for column in columns if column not in OWN_COLUMNS}
    for position, (header, cells) in enumerate(summaries):
        if header in excluded:
            own[position]["problem"] = (
                f"not read: with its columns the table would have more than {untrusted.MOST_COLUMNS:,}"
            )
            continue
        for column, cell in zip(header, cells, strict=True):
            if column in table:
                table[column][position] = cell
    return pd.DataFrame({column: [one.get(column) for one in own] for column in OWN_COLUMNS} | table, dtype=object)


def _read_run(path: str) -> tuple[dict[str, str | None], dict[str, str]]:
    """The cells of ``OWN_COLUMNS`` that a run's files have, and its summary or, without one, its config."""
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
    error_text, started, epochs = (status.get(key) for key in ("error", "started_at", "epochs_completed"))
    return {
        "state": state or summary.get("state") or "unknown",
        "error": error_text[:_MAX_ERROR_CHARACTERS] if isinstance(error_text, str) else None,
        "problem": problem,
        "started_at": started if isinstance(started, str) else None,
        "epochs_in_status": str(epochs) if isinstance(epochs, int) else None,
    }, summary


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
    try:
        leaves = flatten(with_current_targets(untrusted.read_yaml(f"{directory}/config_resolved.yaml")))
    except (OSError, ValueError):
        return {}
    # Content that is not a mapping has the key "".
    return {f"config.{key}": "" if value is None else str(value) for key, value in leaves.items() if key}


def fingerprint_of(directory: Path) -> dict[str, str]:
    """``data_fingerprint`` of ``environment.json`` as a column of ``summary.csv``; {} if it cannot be read."""
    try:
        fingerprint = untrusted.read_json(directory / "environment.json").get("data_fingerprint")
    except (OSError, ValueError):
        return {}
    return {"data_fingerprint": fingerprint} if isinstance(fingerprint, str) else {}


def short_names(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that contains all paths, and the name of each path below it."""
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    return shared, [untrusted.displayable(path[len(shared) :].lstrip(os.sep)) for path in paths]
