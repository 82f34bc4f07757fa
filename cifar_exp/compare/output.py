"""The folder of a comparison: its tables, and the mark by which the command knows its own folder."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_exp.compare.comparison import NOT_MEASURED, Comparison
from cifar_exp.compare.discover import RUN_FILES, status_of
from cifar_exp.compare.group_pairs import GROUP_PAIRS_COLUMNS, group_pair_rows
from cifar_exp.compare.pairs import PAIRS_COLUMNS, Pair, pair_rows
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import tables
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.untrusted import read_json, spreadsheet_safe

# fmt: off
GROUPS_COLUMNS = (
    "metric", "n", "mean", "std", "interval_low", "interval_high", "mean_test_accuracy", "best", "seeds", "runs",
    "not_averaged",
)
PAIR_COLUMNS_OF_RUNS = (
    "accuracy_difference", "difference_low", "difference_high", "p_value", "p_value_corrected", "verdict",
)
# fmt: on
TABLES = ("comparison.csv", "groups.csv", "group_pairs.csv", "pairs.csv")
FIGURES = ("curves.png", "line.png", "heat_map.png", "max_lr.png", "fixed_and_broken.png")
PAGE = "comparison.html"
MARK = "comparison.json"  # marks the folder as a comparison's, and has the request
WRITTEN_BY = "cifar-exp compare"


@dataclass(frozen=True)
class Results:
    """A comparison with the tests of its runs, for the folder and the terminal."""

    comparison: Comparison
    shown: list[int]  # rows of the runs to print
    pairs: list[Pair]  # the baseline against the other usable runs shown
    range_tests: list[Path]  # directories with the curve of an LR range test
    request: dict[str, Any]  # arguments of the command, for the mark
    command: str  # repeats the comparison
    remarks: list[str]  # cautions, and notes on unreadable files and missing figures
    files: list[str] = field(default_factory=list)  # names of the files written


def check_out(out: Path) -> None:
    """Refuse to overwrite other files; an earlier comparison, known by its mark, is replaced.

    Raises:
        RequestError: says why the folder is refused.
    """
    status = status_of(out, "--out ")
    if status is not None and not stat.S_ISDIR(status.st_mode):
        raise RequestError(f"--out {out}: is a file; name a folder")
    if any(status_of(out / name, "--out ") for name in RUN_FILES):
        raise RequestError(f"--out {out}: is a run directory; name another folder for the comparison")
    try:
        mark = read_json(out / MARK)
    except (OSError, ValueError):
        mark = {}
    if mark.get("written_by") == WRITTEN_BY:
        return
    names = [*TABLES, MARK, PAGE, *(f"figures/{name}" for name in FIGURES)]
    if foreign := [name for name in names if os.path.lexists(out / name)]:
        raise RequestError(
            f"--out {out}: {foreign[0]} in it was not written by this command; nothing was changed; name another folder"
        )


def write_tables(out: Path, results: Results) -> None:
    """Write the CSVs."""
    comparison, verdicts = results.comparison, results.comparison.verdicts
    atomic.write_text(out / "comparison.csv", as_csv(runs_frame(comparison, results.pairs)))
    groups = comparison.groups[[*comparison.varied, *GROUPS_COLUMNS]].copy()
    groups.insert(0, "group", range(1, len(groups) + 1))
    atomic.write_text(out / "groups.csv", as_csv(groups))
    rows = group_pair_rows(verdicts.baseline, verdicts.pairs) if verdicts else []
    tables.write_table(out / "group_pairs.csv", GROUP_PAIRS_COLUMNS, rows)
    tables.write_table(out / "pairs.csv", PAIRS_COLUMNS, pair_rows(comparison, results.pairs))
    results.files.extend(TABLES)


def runs_frame(comparison: Comparison, pairs: Sequence[Pair]) -> pd.DataFrame:
    """The content of ``comparison.csv``: a row per run, in order, as measured and without rounding."""
    runs = comparison.runs
    first = ["run", "state", "error", "problem", "best", "group"]
    measured = [column for column in runs.columns if column not in NOT_MEASURED and not column.startswith("config.")]
    frame = runs[[*first, *measured, *(c for c in comparison.differing if c.startswith("config."))]].copy()
    frame["group"] = pd.array(comparison.group_numbers, dtype="Int64")
    frame["error"] = [None if pd.isna(error) else " ".join(str(error).split()) for error in runs["error"]]
    rows: dict[int, tuple[Any, ...]] = {
        pair.position: (pair.difference, *pair.interval, pair.p_value, pair.p_value_corrected, pair.verdict)
        for pair in pairs
    }
    if comparison.baseline is not None:
        rows[comparison.baseline] = (None,) * 5 + ("baseline",)
    return frame.join(pd.DataFrame.from_dict(rows, orient="index", columns=list(PAIR_COLUMNS_OF_RUNS)))


def as_csv(frame: pd.DataFrame) -> str:
    """A table as CSV text, safe to open in a spreadsheet."""
    text = frame.select_dtypes(include=["object", "string"])
    safe = text.map(lambda cell: spreadsheet_safe(cell) if isinstance(cell, str) else cell)
    # Assembled at once: setting thousands of columns one by one takes minutes.
    whole = pd.concat([safe, frame.drop(columns=text.columns)], axis=1)[list(frame.columns)]
    return whole.rename(columns=spreadsheet_safe).to_csv(index=False, lineterminator="\n")
