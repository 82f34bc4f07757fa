"""Options that several commands have."""

import argparse


def add_trust(parser: argparse.ArgumentParser) -> None:
    """``--trust PACKAGE``, as often as wanted."""
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="let the run call a package of yours"
    )
