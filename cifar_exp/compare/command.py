"""``cifar-exp compare``: find the runs, order them, test the differences, write tables and figures."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from cifar_exp.compare.discover import find_runs_and_range_tests, read_runs
from cifar_exp.compare.output import as_csv, check_out, runs_frame, write
from cifar_exp.compare.pairs import Pair, against_baseline
from cifar_exp.compare.render import as_markdown, as_text, groups_table, headline, legend, runs_table
from cifar_exp.compare.tables import Comparison, compare
from cifar_exp.errors import RequestError
from cifar_exp.logs import for_terminal

DEFAULT_OUT = Path("outputs", "comparison")


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code.

    Raises:
        RequestError: the request itself is wrong.
    """
    options = _parser().parse_args(arguments)
    if options.top < 1:
        raise RequestError(f"--top {options.top}: must be at least 1")
    check_out(options.out)
    directories, range_tests, remarks = find_runs_and_range_tests(options.paths)
    baseline = None
    if options.baseline is not None:
        baseline, directories = _baseline(options.baseline, directories)
    comparison = compare(read_runs(directories), options.metric, baseline)
    shown = _shown(comparison, options.top)
    usable = [position for position in shown if comparison.runs["usable"].iloc[position]]
    pairs: list[Pair] = []
    if comparison.baseline is not None:
        others = [position for position in usable if position != comparison.baseline]
        pairs = against_baseline(comparison.runs, comparison.baseline, others)
    asked = {"paths": [str(path) for path in options.paths], "top": options.top}
    files, remarks = write(
        options.out,
        comparison,
        usable,
        pairs,
        range_tests,
        [*remarks, *comparison.remarks],
        asked,
        shlex.join(["cifar-exp", "compare", *arguments]),
        page=options.page,
    )
    written = f"Written to {options.out}: {', '.join(files)}"
    if options.format == "csv":
        _print(as_csv(runs_frame(comparison, pairs).iloc[shown]), sys.stdout)
        _print(for_terminal("".join(f"{remark}\n" for remark in [*remarks, written])), sys.stderr)
    else:
        _print(for_terminal(_report(comparison, shown, pairs, remarks, written, options)), sys.stdout)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cifar-exp compare",
        description="Find the runs under the paths and compare them: a table, CSVs and figures.",
        epilog="A run that failed, diverged or is still running is listed with its state and never averaged in.",
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="run directory, sweep, or a folder above")
    parser.add_argument(
        "--metric", default="test_accuracy", help="numeric column of summary.csv to order by (default: %(default)s)"
    )
    parser.add_argument("--baseline", metavar="RUN", help="run to compare the others with (default: the best)")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=DEFAULT_OUT, help="where the files go (default: %(default)s)"
    )
    parser.add_argument(
        "--top",
        metavar="N",
        type=int,
        default=20,
        help="show, test and draw the best N runs; the CSVs of runs and groups hold all (default: %(default)s)",
    )
    parser.add_argument("--no-page", dest="page", action="store_false", help="do not write comparison.html")
    parser.add_argument("--format", choices=("table", "csv", "markdown"), default="table", help="of what is printed")
    return parser


def _baseline(text: str, directories: list[Path]) -> tuple[str, list[Path]]:
    """The baseline's path as it stands among the directories, added to them where it lies elsewhere."""
    path = Path(text)
    if not path.exists():
        raise RequestError(f"--baseline {text}: no such run directory")
    if not path.is_dir():
        raise RequestError(f"--baseline {text}: is a file; name the run directory that it lies in")
    same = next((str(directory) for directory in directories if directory.samefile(path)), None)
    if same is not None:
        return same, directories
    if not any((path / name).is_file() for name in ("status.json", "summary.csv")):
        raise RequestError(f"--baseline {text}: not a run directory; one holds status.json or summary.csv")
    added = Path(os.path.abspath(path))
    return str(added), [*directories, added]


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
    options: argparse.Namespace,
) -> str:
    """What is printed: the runs, the groups, and what is to be said about them."""
    as_table = as_markdown if options.format == "markdown" else as_text
    parts = [headline(comparison), as_table(runs_table(comparison, shown, pairs))]
    if hidden := len(comparison.runs) - len(shown):
        parts.append(f"{hidden:,} more in comparison.csv (--top {options.top}).")
    parts.append(legend(pairs))
    if groups := groups_table(comparison, options.top):
        parts.append("Runs that differ by their seed only:")
        parts.append(as_table(groups))
        if (hidden := len(comparison.groups) - options.top) > 0:
            parts.append(f"{hidden:,} more in groups.csv (--top {options.top}).")
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
