"""The folder of a comparison: its tables, its figures, and the mark by which the command knows its own folder."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_exp.compare.comparison import NOT_MEASURED, Comparison
from cifar_exp.compare.discover import RUN_FILES, status_of
from cifar_exp.compare.group_pairs import GROUP_PAIRS_COLUMNS, group_pair_rows
from cifar_exp.compare.pairs import PAIRS_COLUMNS, Pair, pair_rows
from cifar_exp.compare.results import FIGURES, MARK, PAGE, TABLES, Results
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status, tables
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
_WRITTEN_BY = "cifar-exp compare"


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
    if mark.get("written_by") == _WRITTEN_BY:
        return
    names = [*TABLES, MARK, PAGE, *(f"figures/{name}" for name in FIGURES)]
    if foreign := [name for name in names if os.path.lexists(out / name)]:
        raise RequestError(
            f"--out {out}: {foreign[0]} in it was not written by this command; nothing was changed; name another folder"
        )


def write(out: Path, results: Results, *, page: bool) -> None:
    """Write tables, figures, page and mark into a folder that ``check_out`` accepted; extends files and remarks.

    Raises:
        RequestError: the folder cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        # The mark comes first, so that an unfinished comparison can be replaced too.
        atomic.write_json(out / MARK, {"written_by": _WRITTEN_BY})
        _write_tables(out, results)
        _write_figures(out, results, page=page)
        baseline = results.comparison.baseline
        mark = {
            "written_by": _WRITTEN_BY,
            "written_at": run_status.now(),
            **results.request,
            "metric": results.comparison.metric,
            "baseline": None if baseline is None else results.comparison.runs["run"].iloc[baseline],
            "baseline_by": results.comparison.baseline_by or None,
            "files": results.files,
            "remarks": results.remarks,
        }
        atomic.write_json(out / MARK, mark)
    except OSError as error:
        raise RequestError(f"--out {out}: cannot be written to: {error}") from error


def _write_tables(out: Path, results: Results) -> None:
    comparison, verdicts = results.comparison, results.comparison.verdicts
    atomic.write_text(out / "comparison.csv", as_csv(runs_frame(comparison, results.pairs)))
    groups = comparison.groups[[*comparison.varied, *GROUPS_COLUMNS]].copy()
    groups.insert(0, "group", range(1, len(groups) + 1))
    atomic.write_text(out / "groups.csv", as_csv(groups))
    rows = group_pair_rows(verdicts.baseline, verdicts.pairs) if verdicts else []
    tables.write_table(out / "group_pairs.csv", GROUP_PAIRS_COLUMNS, rows)
    tables.write_table(out / "pairs.csv", PAIRS_COLUMNS, pair_rows(comparison, results.pairs))
    results.files.extend(TABLES)


def _write_figures(out: Path, results: Results, *, page: bool) -> None:
    # These imports load Matplotlib, which a wrong request need not wait for.
    from cifar_exp.compare.changed_images import changed_images
    from cifar_exp.compare.draw import draw
    from cifar_exp.compare.figure_data import read_curves
    from cifar_exp.compare.page.build import MOST_IMAGES, comparison_page, curve_rows

    comparison = results.comparison
    drawn = [row for row in results.shown if comparison.runs["usable"].iloc[row]]
    change = changed_images(comparison, results.pairs, MOST_IMAGES)
    rows = {row for row in drawn if comparison.on_main_data.iloc[row]}
    curves = read_curves(comparison, sorted(rows.union(curve_rows(comparison) if page else ())))
    figures, remarks = draw(comparison, drawn, curves, change, results.range_tests, out / "figures")
    results.remarks.extend(remarks)
    results.files.extend(f"figures/{name}" for name in figures)
    if page:
        atomic.write_text(out / PAGE, comparison_page(results, curves, change, out))
        results.files.append(PAGE)
    else:
        (out / PAGE).unlink(missing_ok=True)


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
