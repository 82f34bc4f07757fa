"""``cifar-exp report RUN...``: write a run's page again, from its directory alone."""

import argparse

from cifar_exp.errors import DONE, RequestError
from cifar_exp.reports.run_page import FILE
from cifar_exp.reports.run_page.page import run_page
from cifar_exp.safe_io.atomic import write_text


def main(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    for run in options.runs:
        text = run_page(run)
        try:
            write_text(run / FILE, text)
        except OSError as error:
            raise RequestError(f"{run / FILE}: cannot be written: {error.strerror}") from error
        print(run / FILE)
    return DONE
