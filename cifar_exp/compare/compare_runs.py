"""The whole comparison of runs: find, order, test, write, print."""

import os
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from cifar_exp.compare.discover import RUN_FILES, find_runs, read_runs, status_of
from cifar_exp.compare.more_seeds import advice
from cifar_exp.compare.output import as_csv, check_out, runs_frame, write
from cifar_exp.compare.pairs import Pair, against_baseline
from cifar_exp.compare.render import (
    Table,
    as_markdown,
    as_text,
    groups_legend,
    groups_table,
    headline,
    legend,
    runs_table,
)
from cifar_exp.compare.tables import Comparison, compare
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.console import for_terminal


@dataclass(frozen=True)
class Compared:
    """A comparison whose files are written.

    Attributes:
        comparison: of the runs.
        shown: positions of the runs to print.
        pairs: the baseline against the others.
        remarks: cautions, and what could not be read or drawn.
        written: which files, in a sentence.
        top: how many runs were to be shown.
    """

    comparison: Comparison
    shown: list[int]
    pairs: list[Pair]
    remarks: list[str]
    written: str
    top: int


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
) -> Compared:
    """Compare the runs under the paths: write CSVs, figures and the page.

    Args:
        paths: run directories, or folders above them.
        out: folder that the files are written to.
        metric: numeric column of ``summary.csv`` to order by; None as in ``tables.compare``.
        baseline: run to compare the others with; None takes the best (see ``tables.compare``).
        over: keys of the config whose values make repetitions of one setting.
        top: how many runs are shown, tested and drawn.
        page: whether to write ``comparison.html``.
        command: that repeats the comparison, for the page.

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
    usable = [position for position in shown if comparison.runs["usable"].iloc[position]]
    pairs = against_baseline(comparison, [position for position in usable if position != comparison.baseline])
    asked = {"paths": [str(path) for path in paths], "top": top, "over": list(over)}
    remarks = [*remarks, *comparison.remarks]
    files, remarks = write(out, comparison, usable, pairs, range_tests, remarks, asked, command, page=page)
    return Compared(comparison, shown, pairs, remarks, f"Written to {out}: {', '.join(files)}", top)


def print_report(compared: Compared, form: str) -> None:
    """Print a comparison.

    Args:
        compared: what to print.
        form: ``table``, ``markdown``, or ``csv`` (remarks go to stderr).
    """
    if form == "csv":
        _print(as_csv(runs_frame(compared.comparison, compared.pairs).iloc[compared.shown]), sys.stdout)
        _print(for_terminal("".join(f"{line}\n" for line in [*compared.remarks, compared.written])), sys.stderr)
    else:
        _print(for_terminal(_report(compared, as_markdown if form == "markdown" else as_text)), sys.stdout)


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


def _report(compared: Compared, as_table: Callable[[Table], str]) -> str:
    """The printed text: the runs, the groups, and the remarks about them."""
    comparison, top = compared.comparison, compared.top
    parts = [headline(comparison), *_about_settings(comparison, top, as_table)]
    if comparison.has_repeats:
        parts.append("Run by run (each verdict is about two networks, not about their settings):")
    parts.append(as_table(runs_table(comparison, compared.shown, compared.pairs)))
    if hidden := len(comparison.runs) - len(compared.shown):
        parts.append(f"{hidden:,} more in comparison.csv (--top {top}).")
    parts.append(legend(comparison, compared.pairs))
    if compared.remarks:
        parts.append("\n".join(f"- {remark}" for remark in compared.remarks))
    return "\n\n".join(part for part in [*parts, compared.written] if part) + "\n"


def _about_settings(comparison: Comparison, top: int, as_table: Callable[[Table], str]) -> list[str]:
    """Which setting is better, and what more seeds would show."""
    parts = []
    if groups := groups_table(comparison, top):
        parts += [f"Settings (runs that differ by {comparison.repetition} only):", as_table(groups)]
        if (hidden := len(comparison.groups) - top) > 0:
            parts.append(f"{hidden:,} more in groups.csv (--top {top}).")
        parts.append(groups_legend(comparison))
    suggestions = advice(comparison)
    return [*parts, "\n".join("\n    ".join([one.text, *one.commands]) for one in suggestions)]


def _print(text: str, stream: TextIO) -> None:
    """Print; a reader that has seen enough and closed the pipe (`| head`) is no error."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # What is still buffered would raise again when the interpreter flushes it on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
