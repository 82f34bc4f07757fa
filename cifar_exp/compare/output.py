"""The folder that a comparison is written to: its tables, its figures, and the mark that says whose it is."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifar_exp.compare.discover import RUN_FILES, status_of
from cifar_exp.compare.files import FIGURES, MARK, PAGE, TABLES
from cifar_exp.compare.group_pairs import GROUP_PAIRS_COLUMNS, group_pair_rows
from cifar_exp.compare.pairs import PAIRS_COLUMNS, Pair, pair_rows
from cifar_exp.compare.tables import Comparison
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status, tables
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.untrusted import read_json, spreadsheet_safe

GROUPS_COLUMNS = (
    "metric",
    "n",
    "mean",
    "std",
    "interval_low",
    "interval_high",
    "mean_test_accuracy",
    "best",
    "seeds",
    "runs",
    "not_averaged",
)
PAIR_COLUMNS_OF_RUNS = (
    "accuracy_difference",
    "difference_low",
    "difference_high",
    "p_value",
    "p_value_corrected",
    "verdict",
)
_WRITTEN_BY = "cifar-exp compare"


def check_out(out: Path) -> None:
    """Refuse to write where something else lies. An earlier comparison, known by its mark, is replaced."""
    status = status_of(out, "--out ")
    if status is not None and not stat.S_ISDIR(status.st_mode):
        raise RequestError(f"--out {out}: is a file; name a folder")
    if any(status_of(out / name, "--out ") for name in RUN_FILES):
        raise RequestError(f"--out {out}: is a run directory; name a folder of its own for the comparison")
    if _is_ours(out):
        return
    names = [*TABLES, MARK, PAGE, *(f"figures/{name}" for name in FIGURES)]
    if in_the_way := [name for name in names if os.path.lexists(out / name)]:
        raise RequestError(
            f"--out {out}: {in_the_way[0]} in there was not written by this command, and nothing was touched; "
            "name another folder"
        )


def _is_ours(out: Path) -> bool:
    try:
        mark = read_json(out / MARK)
    except (OSError, ValueError):
        return False
    return isinstance(mark, dict) and mark.get("written_by") == _WRITTEN_BY


def write(
    out: Path,
    comparison: Comparison,
    usable: Sequence[int],
    pairs: Sequence[Pair],
    range_tests: Sequence[Path],
    remarks: Sequence[str],
    asked: dict[str, Any],
    command: str,
    *,
    page: bool = True,
) -> tuple[list[str], list[str]]:
    """Write tables, figures and the mark.

    Args:
        out: a folder that ``check_out`` let pass.
        comparison: of the runs.
        usable: positions of the runs to draw.
        pairs: the baseline against the others.
        range_tests: directories with a range test's curve.
        remarks: so far.
        asked: what the user asked for, to be kept in the mark.
        command: that would ask for it again.
        page: whether ``comparison.html`` is wanted.

    Returns:
        Names of the files written, and the remarks with those about figures.

    Raises:
        RequestError: the folder cannot be written to.
    """
    # They load Matplotlib and ECharts' wrapping, which no wrong request should wait for.
    from cifar_exp.compare.changed import changed_images
    from cifar_exp.compare.draw import draw
    from cifar_exp.compare.page.build import MOST_IMAGES, comparison_page

    baseline = comparison.baseline
    try:
        out.mkdir(parents=True, exist_ok=True)
        # First the mark: a comparison cut short is known as ours, too, and can be made again.
        atomic.write_json(out / MARK, {"written_by": _WRITTEN_BY})
        _write_frame(out / "comparison.csv", runs_frame(comparison, pairs))
        _write_frame(out / "groups.csv", _groups_frame(comparison))
        tables.write_table(out / "group_pairs.csv", GROUP_PAIRS_COLUMNS, group_pair_rows(comparison.verdicts))
        rows = [] if baseline is None else pair_rows(comparison.runs, baseline, pairs)
        tables.write_table(out / "pairs.csv", PAIRS_COLUMNS, rows)
        change = changed_images(comparison, pairs, MOST_IMAGES)
        figures, about_figures = draw(comparison, usable, change, range_tests, out / "figures")
        for name in set(FIGURES) - set(figures):
            (out / "figures" / name).unlink(missing_ok=True)  # of an earlier comparison
        files = [*TABLES, *(f"figures/{name}" for name in figures)]
        all_remarks = [*remarks, *about_figures]
        if page:
            atomic.write_text(
                out / PAGE, comparison_page(comparison, pairs, change, all_remarks, [*files, MARK], command, out)
            )
            files.append(PAGE)
        else:
            (out / PAGE).unlink(missing_ok=True)  # of an earlier comparison
        result = {
            "written_by": _WRITTEN_BY,
            "written_at": run_status.now(),
            **asked,
            "metric": comparison.metric,
            "baseline": None if baseline is None else comparison.runs["run"].iloc[baseline],
            "baseline_by": comparison.baseline_by or None,
            "files": files,
            "remarks": all_remarks,
        }
        atomic.write_json(out / MARK, result)
    except OSError as error:
        raise RequestError(f"--out {out}: cannot be written to: {error}") from error
    return files, all_remarks


def runs_frame(comparison: Comparison, pairs: Sequence[Pair]) -> pd.DataFrame:
    """The content of ``comparison.csv``: a row per run, in order, as measured and without rounding."""
    runs = comparison.runs
    first = ["run", "state", "error", "problem", "best", "group"]
    inner = {"path", "label", "name", "value", "usable", "data_set", *first}
    measured = [column for column in runs.columns if column not in inner and not column.startswith("config.")]
    frame = runs[[*first, *measured, *(c for c in comparison.differing if c.startswith("config."))]].copy()
    frame["group"] = pd.array(comparison.group_numbers, dtype="Int64")
    frame["error"] = [None if pd.isna(error) else " ".join(str(error).split()) for error in runs["error"]]
    told: dict[int, tuple[Any, ...]] = {pair.position: _of_pair(pair) for pair in pairs}
    if comparison.baseline is not None:
        told[comparison.baseline] = (None,) * 5 + ("baseline",)
    for place, column in enumerate(PAIR_COLUMNS_OF_RUNS):
        values = [told[row][place] if row in told else None for row in range(len(frame))]
        frame[column] = pd.Series(values, index=frame.index, dtype=object if column == "verdict" else np.float64)
    return frame


def _of_pair(pair: Pair) -> tuple[Any, ...]:
    difference = None if pair.counts is None else pair.counts.accuracy_difference
    return (difference, *pair.interval, pair.p_value, pair.p_value_corrected, pair.verdict)


def _groups_frame(comparison: Comparison) -> pd.DataFrame:
    frame = comparison.groups[[*comparison.varied, *GROUPS_COLUMNS]].copy()
    frame.insert(0, "group", range(1, len(frame) + 1))
    return frame


def as_csv(frame: pd.DataFrame) -> str:
    """A table as CSV text, safe to open in a spreadsheet."""
    text = frame.select_dtypes(include=["object", "string"])
    safe = text.map(lambda cell: spreadsheet_safe(cell) if isinstance(cell, str) else cell)
    # Put together at once: thousands of columns set one by one take minutes.
    whole = pd.concat([safe, frame.drop(columns=text.columns)], axis=1)[list(frame.columns)]
    return whole.rename(columns=spreadsheet_safe).to_csv(index=False, lineterminator="\n")


def _write_frame(path: Path, frame: pd.DataFrame) -> None:
    atomic.write_text(path, as_csv(frame))
