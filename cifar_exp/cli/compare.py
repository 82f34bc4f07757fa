"""``cifar-exp compare PATH...``: what differs between runs, by how much, and whether that is significant."""

import argparse

from cifar_exp.compare.compare_runs import compare_runs
from cifar_exp.compare.render import print_report
from cifar_exp.errors import DONE, RequestError


def main(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    if options.top < 1:
        raise RequestError(f"--top {options.top}: must be at least 1")
    results = compare_runs(
        options.paths,
        options.out,
        metric=options.metric,
        baseline=options.baseline,
        over=[key.strip() for key in options.over.split(",")],
        top=options.top,
        page=options.page,
        command=options.command,
    )
    print_report(results, options.out, options.format)
    return DONE
