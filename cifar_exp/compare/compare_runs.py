"""Runs compared from beginning to end: found, ordered, tested, written down and printed."""

import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from cifar_exp.compare.discover import RUN_FILES, find_runs, read_runs, status_of
from cifar_exp.compare.output import as_csv, check_out, runs_frame, write
from cifar_exp.compare.pairs import Pair, against_baseline
from cifar_exp.compare.render import Table, as_markdown, as_text, groups_table, headline, legend, runs_table
from cifar_exp.compare.tables import Comparison, compare
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.console import for_terminal


def compare_runs(
    paths: Sequence[Path],
    out: Path,
    *,
    metric: str,
    baseline: str | None,
    top: int,
    page: bool,
    form: str,
    command: str,
) -> None:
    """Compare the runs under the paths: print a table, write CSVs, figures and the page.

    Args:
        paths: run directories, or folders above them.
        out: where the files go.
        metric: numeric column of ``summary.csv`` to order by.
        baseline: run to compare the others with; None takes the best.
        top: how many runs are shown, tested and drawn.
        page: whether ``comparison.html`` is wanted.
        form: of what is printed: ``table``, ``csv`` or ``markdown``.
        command: that asked for it, for the page.

    Raises:
        RequestError: the request itself is wrong.
    """
    check_out(out)
    directories, range_tests, remarks = find_runs(paths)
    chosen = None
    if baseline is not None:
        chosen, directories = _baseline(baseline, directories)
    comparison = compare(read_runs(directories), metric, chosen)
    shown = _shown(comparison, top)
    usable = [position for position in shown if comparison.runs["usable"].iloc[position]]
    pairs: list[Pair] = []
    if comparison.baseline is not None:
        others = [position for position in usable if position != comparison.baseline]
        pairs = against_baseline(comparison.runs, comparison.baseline, others)
    asked = {"paths": [str(path) for path in paths], "top": top}
    remarks = [*remarks, *comparison.remarks]
    files, remarks = write(out, comparison, usable, pairs, range_tests, remarks, asked, command, page=page)
    written = f"Written to {out}: {', '.join(files)}"
    if form == "csv":
        _print(as_csv(runs_frame(comparison, pairs).iloc[shown]), sys.stdout)
        _print(for_terminal("".join(f"{remark}\n" for remark in [*remarks, written])), sys.stderr)
    else:
        as_table = as_markdown if form == "markdown" else as_text
        _print(for_terminal(_report(comparison, shown, pairs, remarks, written, top, as_table)), sys.stdout)


def _baseline(text: str, directories: list[Path]) -> tuple[str, list[Path]]:
    """The baseline's path as it stands among the directories, added to them where it lies elsewhere."""
    path = Path(text)
    status = status_of(path, "--baseline ")
    if status is None:
        raise RequestError(f"--baseline {text}: no such run directory")
    if not stat.S_ISDIR(status.st_mode):
        raise RequestError(f"--baseline {text}: is a file; name the run directory that it lies in")
    same = next((str(directory) for directory in directories if _is(directory, status)), None)
    if same is not None:
        return same, directories
    if not any(status_of(path / name, "--baseline ") for name in RUN_FILES):
        raise RequestError(f"--baseline {text}: not a run directory; one holds status.json or summary.csv")
    added = Path(os.path.abspath(path))
    return str(added), [*directories, added]


def _is(directory: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(directory.stat(), status)
    except OSError:  # gone since it was found
        return False


def _shown(comparison: Comparison, top: int) -> list[int]:
    """The best N runs, the baseline among them in any case, and as many of those without a value."""
    usable = comparison.runs["usable"].to_numpy()
    best = [int(i) for i in usable.nonzero()[0][:top]]
    if comparison.baseline is not None and comparison.baseline not in best:
        best.append(comparison.baseline)
    return best + [int(i) for i in (~usable).nonzero()[0][:top]]


def _report(
    comparison: Comparison,
    shown: Sequence[int],
    pairs: Sequence[Pair],
    remarks: Sequence[str],
    written: str,
    top: int,
    as_table: Callable[[Table], str],
) -> str:
    """What is printed: the runs, the groups, and what is to be said about them."""
    parts = [headline(comparison), as_table(runs_table(comparison, shown, pairs))]
    if hidden := len(comparison.runs) - len(shown):
        parts.append(f"{hidden:,} more in comparison.csv (--top {top}).")
    parts.append(legend(pairs))
    if groups := groups_table(comparison, top):
        parts.append("Runs that differ by their seed only:")
        parts.append(as_table(groups))
        if (hidden := len(comparison.groups) - top) > 0:
            parts.append(f"{hidden:,} more in groups.csv (--top {top}).")
    if remarks:
        parts.append("\n".join(f"- {remark}" for remark in remarks))
    return "\n\n".join(part for part in [*parts, written] if part) + "\n"


def _print(text: str, stream: TextIO) -> None:
    """Print; a reader that has seen enough and closed the pipe (`| head`) is no error."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # What is still buffered would raise again when the interpreter flushes it on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
