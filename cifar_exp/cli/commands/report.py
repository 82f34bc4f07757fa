"""``cifar-exp report RUN...``: a run's page, made again from its directory alone."""

import argparse
from pathlib import Path

from cifar_exp.cli.run_names import find_run
from cifar_exp.errors import RequestError


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code.

    Raises:
        RequestError: a path is not a run directory, or the page cannot be written there.
    """
    parser = argparse.ArgumentParser(
        prog="cifar-exp report",
        description="Make report.html of runs again, whatever their state, from their directories alone.",
        epilog="Example: cifar-exp report outputs/2026-11-22/10-00-00-000000",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's directory")
    options = parser.parse_args(arguments)
    from cifar_exp.reports.run_page.page import FILE, run_page
    from cifar_exp.safe_io.atomic import write_text

    for run in map(find_run, options.runs):
        text = run_page(run)
        try:
            write_text(run / FILE, text)
        except OSError as error:
            raise RequestError(f"{run / FILE}: cannot be written: {error.strerror}") from error
        print(run / FILE)
    return 0
