"""``cifar-exp resume RUN_OR_SWEEP``: go on from where an interrupted run or sweep stopped."""

import argparse
from pathlib import Path

from cifar_exp.cli.commands.options import add_trust, trusted
from cifar_exp.cli.run_names import find_run
from cifar_exp.safe_io.console import log_to_console


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code.

    Raises:
        RequestError: there is nothing to go on with, or not in the way that was asked for.
    """
    parser = argparse.ArgumentParser(
        prog="cifar-exp resume",
        description="Go on with an interrupted or failed run from its last checkpoint; the result is that of a run "
        "that never stopped. Of a sweep, skip the jobs that are done and do the rest.",
        epilog="A sweep's settings of Hydra (hydra.launcher.KEY=..., --config-dir) and trust=... are given again.",
    )
    parser.add_argument("path", metavar="RUN_OR_SWEEP", type=Path, help="its directory")
    add_trust(parser)
    parser.add_argument("--config-dir", metavar="DIR", help="options of your own that the sweep was composed with")
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="KEY=VALUE",
        help="of a sweep: Hydra's, and sweep.fail_fast; of a run: explain.images=0",
    )
    options = parser.parse_intermixed_args(arguments)
    from cifar_exp.cli.resume import resume

    log_to_console()
    trust, settings = trusted(options, options.settings)
    return resume(find_run(options.path), settings, trust=trust, config_dir=options.config_dir)
