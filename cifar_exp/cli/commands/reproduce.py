"""``cifar-exp reproduce RUN``: the saved config run again, and whether the numbers are the same."""

import argparse
from pathlib import Path

from cifar_exp.cli.commands.options import add_trust, trusted
from cifar_exp.cli.run_names import find_run
from cifar_exp.compute.memory import off_for_imports
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.console import log_to_console


def main(arguments: list[str]) -> int:
    """Run the command; returns 0 if the numbers are the same, 1 if they differ.

    Raises:
        RequestError: the request itself is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="cifar-exp reproduce",
        description="Run a saved config again in a new directory and say whether the numbers are the same, row by row.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a completed run's directory")
    parser.add_argument("--out", type=Path, help="new directory (default: outputs/reproductions/DATE/TIME)")
    parser.add_argument("--data-root", type=Path, metavar="PATH", help="where the data lies on this machine")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="T",
        help="call values the same if they differ by at most T (default 0)",
    )
    add_trust(parser)
    parser.add_argument("settings", nargs="*", metavar="trust=[PACKAGE]", help="the same as --trust PACKAGE")
    options = parser.parse_intermixed_args(arguments)
    if not options.tolerance >= 0:
        raise RequestError(f"--tolerance {options.tolerance}: must be at least 0")
    with off_for_imports():
        from cifar_exp.cli.reproduce import reproduce
        from cifar_exp.run_dir.saved_run import new_directory, open_run

    log_to_console()
    out = new_directory(options.out, "reproductions")
    trust, others = trusted(options, options.settings)
    if others:
        raise RequestError(
            f"{others[0]}: a reproduction takes the run's own config; only trust=[PACKAGE] is given again"
        )
    saved = open_run(find_run(options.run), trust=trust)
    return 0 if reproduce(saved, out, data_root=options.data_root, tolerance=options.tolerance)["same"] else 1
