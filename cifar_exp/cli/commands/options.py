"""Options that several commands have."""

import argparse
from collections.abc import Sequence


def add_trust(parser: argparse.ArgumentParser) -> None:
    """``--trust PACKAGE``, as often as wanted."""
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="let the run call a package of yours"
    )


def trusted(options: argparse.Namespace, settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """The packages of ``--trust PACKAGE`` and of ``trust=[PACKAGE]``, and the other settings.

    Raises:
        RequestError: ``trust=...`` holds no packages.
    """
    from cifar_exp.config.overrides import split_trust

    packages, others = split_trust(settings) if settings else ([], [])
    return [*options.trust, *packages], others
