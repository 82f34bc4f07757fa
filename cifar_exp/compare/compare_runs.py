"""The whole comparison of runs: find, order, test, write."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cifar_exp.compare.comparison import Comparison, compare
from cifar_exp.compare.discover import RUN_FILES, find_runs, read_runs
from cifar_exp.compare.output import MARK, PAGE, WRITTEN_BY, Results, check_out, write_tables
from cifar_exp.compare.pairs import against_baseline
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status
from cifar_exp.run_dir.read import require_run
from cifar_exp.safe_io import atomic


def compare_runs(
    paths: Sequence[Path],
    out: Path,
    *,
    metric: str | None = None,
    baseline: str | None = None,
    over: Sequence[str] = ("seed",),
    top: int = 20,
    page: bool = True,
    command: str,
) -> Results:
    """Compare the runs at or under the paths: write CSVs, figures and the page into ``out``.

    The arguments are the options of ``cifar-exp compare``; see ``comparison.compare`` for ``metric``, ``baseline`` and
    ``over``. The best ``top`` runs are shown, tested and drawn. The page names the command, which repeats it.

    Raises:
        RequestError: the request itself is wrong.
    """
    check_out(out)
    directories, range_tests, remarks = find_runs(paths)
    chosen = None
    if baseline is not None:
        chosen, directories = _baseline(baseline, directories)
    comparison = compare(read_runs(directories), metric, chosen, over)
    shown = _shown(comparison, top)
    usable = comparison.runs["usable"]
    pairs = against_baseline(comparison, [row for row in shown if usable.iloc[row] and row != comparison.baseline])
    request = {"paths": [str(path) for path in paths], "top": top, "over": list(over)}
    results = Results(comparison, shown, pairs, range_tests, request, command, [*remarks, *comparison.remarks])
    try:
        _write(out, results, page=page)
    except OSError as error:
        raise RequestError(f"--out {out}: cannot be written to: {error}") from error
    return results


def _baseline(text: str, directories: list[Path]) -> tuple[str, list[Path]]:
    """The baseline's path as in the directories, which are extended by it if it lies elsewhere."""
    path = Path(text)
    try:
        require_run(path, *RUN_FILES)
    except RequestError as error:
        raise RequestError(f"--baseline {error}") from error
    for directory in directories:
        with suppress(OSError):  # deleted since it was found
            if path.samefile(directory):
                return str(directory), directories
    added = Path(os.path.abspath(path))
    return str(added), [*directories, added]


def _shown(comparison: Comparison, top: int) -> list[int]:
    """The best runs, always with the baseline, and as many of those without a value."""
    usable = comparison.runs["usable"].to_numpy()
    best = [int(i) for i in usable.nonzero()[0][:top]]
    if comparison.baseline is not None and comparison.baseline not in best:
        best.append(comparison.baseline)
    return best + [int(i) for i in (~usable).nonzero()[0][:top]]


def _write(out: Path, results: Results, *, page: bool) -> None:
    """Write tables, figures, page and mark into a folder that ``check_out`` accepted; extends files and remarks."""
    # These imports load Matplotlib, which a wrong request need not wait for.
    from cifar_exp.compare.changed_images import changed_images
    from cifar_exp.compare.draw import draw
    from cifar_exp.compare.figure_data import read_curves
    from cifar_exp.compare.page.build import MOST_IMAGES, comparison_page, curve_rows

    out.mkdir(parents=True, exist_ok=True)
    # The mark comes first, so that an unfinished comparison can be replaced too.
    atomic.write_json(out / MARK, {"written_by": WRITTEN_BY})
    write_tables(out, results)
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
    baseline = comparison.baseline
    mark = {
        "written_by": WRITTEN_BY,
        "written_at": run_status.now(),
        **results.request,
        "metric": comparison.metric,
        "baseline": None if baseline is None else comparison.runs["run"].iloc[baseline],
        "baseline_by": comparison.baseline_by or None,
        "files": results.files,
        "remarks": results.remarks,
    }
    atomic.write_json(out / MARK, mark)
