"""``cifar-exp compare PATH...``: what differs between runs, by how much, and whether it means anything."""

import argparse
import shlex
from pathlib import Path

from cifar_exp.errors import RequestError


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code.

    Raises:
        RequestError: the request itself is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="cifar-exp compare",
        description="Find the runs under the paths and compare them: a table, CSVs and figures.",
        epilog="A run that failed, diverged or is still running is listed with its state and never averaged in.",
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="run directory, sweep, or a folder above")
    parser.add_argument(
        "--metric",
        help="column of summary.csv to order by (default: val_accuracy if all runs have one, else test_accuracy)",
    )
    parser.add_argument(
        "--baseline", metavar="RUN", help="run to compare the others with (default: the best by val_accuracy)"
    )
    parser.add_argument(
        "--over",
        metavar="KEY[,KEY...]",
        default="seed",
        help="config keys whose values are repetitions of one setting, such as seed,data.split_seed "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("outputs", "comparison"),
        help="where the files go (default: %(default)s)",
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
    options = parser.parse_args(arguments)
    if options.top < 1:
        raise RequestError(f"--top {options.top}: must be at least 1")
    from cifar_exp.compare.compare_runs import compare_runs, print_report

    compared = compare_runs(
        options.paths,
        options.out,
        metric=options.metric,
        baseline=options.baseline,
        over=[key.strip() for key in options.over.split(",")],
        top=options.top,
        page=options.page,
        command=shlex.join(["cifar-exp", "compare", *arguments]),
    )
    print_report(compared, options.format)
    return 0
