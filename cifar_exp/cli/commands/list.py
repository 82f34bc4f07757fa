"""``cifar-exp list [PATH...]``: the runs under some paths."""

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code.

    Raises:
        RequestError: the request itself is wrong.
    """
    parser = argparse.ArgumentParser(prog="cifar-exp list", description="List the runs under the paths, newest first.")
    parser.add_argument("paths", metavar="PATH", nargs="*", type=Path, help="folder (default: outputs)")
    parser.add_argument("--sort", metavar="COLUMN", help="column of the list, of summary.csv or config key; best first")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="default: %(default)s")
    options = parser.parse_args(arguments)
    from cifar_exp.cli.list import main as list_runs

    return list_runs(options)
