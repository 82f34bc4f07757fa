"""``cifar-exp evaluate RUN``: a run's checkpoint measured again, on its own data or on other data."""

import argparse
from pathlib import Path

from cifar_exp.cli.commands.options import add_trust, trusted
from cifar_exp.cli.run_names import find_run
from cifar_exp.compute.memory import off_for_imports
from cifar_exp.config.schema import OVERRIDABLE
from cifar_exp.safe_io.console import log_to_console


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code.

    Raises:
        RequestError: the request itself is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="cifar-exp evaluate",
        description="Measure a run's checkpoint again: metrics, predictions, per-class figures, Grad-CAM.",
        epilog="Example: cifar-exp evaluate outputs/2026-11-22/10-00-00-000000 data=image_folder data.root=/data/mine",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a completed run's directory")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=f"overrides of {', '.join(OVERRIDABLE)}")
    parser.add_argument(
        "--weights", choices=("last", "best"), help="which checkpoint (default: the one the run measured)"
    )
    parser.add_argument("--out", type=Path, help="new directory (default: outputs/evaluations/DATE/TIME)")
    add_trust(parser)
    options = parser.parse_intermixed_args(arguments)  # overrides may stand after an option
    with off_for_imports():
        from cifar_exp.cli.evaluate import evaluate_run
        from cifar_exp.run_dir.saved_run import open_run

    log_to_console()
    trust, overrides = trusted(options, options.overrides)
    evaluate_run(open_run(find_run(options.run), trust=trust), overrides, options.weights, options.out)
    return 0
