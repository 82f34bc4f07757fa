"""``cifar-exp predict RUN PATH...``: images classified by a run's network."""

import argparse
from pathlib import Path

from cifar_exp.cli.commands.options import add_trust
from cifar_exp.compute.memory import off_for_imports
from cifar_exp.safe_io.console import log_to_console


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code.

    Raises:
        RequestError: the request itself is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="cifar-exp predict",
        description="Classify images by a run's network, from the run directory alone; no labels are needed.",
        epilog="Example: cifar-exp predict outputs/2026-11-22/10-00-00-000000 photo.jpg folder/ --explain",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="directory of a completed run")
    parser.add_argument("paths", metavar="PATH", nargs="+", help="image, folder of images, or - (a list on stdin)")
    parser.add_argument("--probabilities", action="store_true", help="write the probabilities of all classes")
    parser.add_argument("--explain", action="store_true", help="draw Grad-CAM maps of the first 40 images")
    what = "checkpoint to use (default: the one that the run evaluated)"
    parser.add_argument("--weights", choices=("last", "best"), help=what)
    what = "auto, cpu, cuda or mps (default: the device of the run's config)"
    parser.add_argument("--device", metavar="DEVICE", help=what)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="new directory (default: outputs/predictions/DATE/TIME)"
    )
    add_trust(parser)
    options = parser.parse_intermixed_args(arguments)
    with off_for_imports():
        from cifar_exp.cli.predict import main as predict

    log_to_console()
    return predict(options)
