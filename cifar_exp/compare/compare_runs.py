"""The whole comparison of runs: find, order, test, write, print."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from cifar_exp.compare.comparison import Comparison, compare
from cifar_exp.compare.discover import RUN_FILES, find_runs, read_runs
from cifar_exp.compare.more_seeds import advice
from cifar_exp.compare.output import as_csv, check_out, runs_frame, write
from cifar_exp.compare.pairs import against_baseline
from cifar_exp.compare.render import TextTable, as_markdown, as_text, groups_legend, headline, legend, printed
from cifar_exp.compare.result_tables import MOST_SETTINGS, runs_table, settings_table
from cifar_exp.compare.results import Results
from cifar_exp.errors import RequestError
from cifar_exp.run_dir.read import require_run
from cifar_exp.safe_io.console import for_terminal


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
    remarks = [*remarks, *comparison.remarks]
    results = Results(comparison, shown, pairs, range_tests, request, command, remarks)
    write(out, results, page=page)
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


def print_report(results: Results, out: Path, form: str) -> None:
    """Print a comparison as ``table``, ``markdown`` or ``csv`` (remarks go to stderr); ``out`` is its folder."""
    written = f"Written to {out}: {', '.join(results.files)}"
    if form == "csv":
        _print(as_csv(runs_frame(results.comparison, results.pairs).iloc[results.shown]), sys.stdout)
        _print(for_terminal("".join(f"{line}\n" for line in [*results.remarks, written])), sys.stderr)
    else:
        parts = _report(results, as_markdown if form == "markdown" else as_text)
        _print(for_terminal("\n\n".join(part for part in [*parts, written] if part) + "\n"), sys.stdout)


def _report(results: Results, as_table: Callable[[TextTable], str]) -> list[str]:
    """The printed text: settings, runs, and the remarks."""
    comparison, top = results.comparison, results.request["top"]
    parts = [headline(comparison)]
    if settings := settings_table(comparison, top):
        parts += [f"Settings (runs that differ by {comparison.repetition} only):", as_table(printed(settings))]
        parts += [_hidden(len(comparison.groups) - top, "groups.csv", top), groups_legend(comparison)]
    parts.append("\n".join("\n    ".join([one.text, *one.commands]) for one in advice(comparison)))
    if settings:
        parts.append("Run by run (each verdict is about two networks, not about their settings):")
    parts.append(as_table(printed(runs_table(comparison, results.shown, results.pairs))))
    parts.append(_hidden(len(comparison.runs) - len(results.shown), "comparison.csv", top))
    if comparison.experiments:
        parts.append(f"The {len(comparison.varied):,} keys that differ between the experiments are in comparison.csv.")
    elif (more := len(comparison.differing) - MOST_SETTINGS) > 1:
        parts.append(f"{more:,} more settings that differ are in comparison.csv.")
    parts += [legend(comparison, results.pairs), "\n".join(f"- {remark}" for remark in results.remarks)]
    return parts


def _hidden(count: int, file: str, top: int) -> str:
    return f"{count:,} more in {file} (--top {top})." if count > 0 else ""


def _print(text: str, stream: TextIO) -> None:
    """Print; a reader that closes the pipe early (`| head`) is not an error."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # The buffered rest would raise again when the interpreter flushes it on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
