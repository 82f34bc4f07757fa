"""``cifar-exp lr-find``: a learning-rate range test on the composed experiment, and the sweep to try next."""

import argparse
from pathlib import Path

from cifar_exp.cli.commands.options import add_trust, trusted
from cifar_exp.compute.memory import off_for_imports
from cifar_exp.safe_io.console import log_to_console
from cifar_exp.training.lr_range_test import LRRange


def main(arguments: list[str]) -> int:
    """Run the command; returns 0 with a suggestion, 1 without.

    Raises:
        RequestError: the request itself is wrong.
    """
    default = LRRange()
    parser = argparse.ArgumentParser(
        prog="cifar-exp lr-find",
        description="Train a copy of the composed experiment's network on a rising learning rate, watch the loss, and "
        "suggest a max_lr. max_lr and epochs of the experiment do not matter.",
        epilog="Example: cifar-exp lr-find experiment=quickstart optimizer=adamw",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the experiment, as for a run")
    parser.add_argument(
        "--min-lr", type=float, default=default.low, metavar="LR", help="first learning rate (default: %(default)g)"
    )
    parser.add_argument(
        "--max-lr", type=float, default=default.high, metavar="LR", help="last learning rate (default: %(default)g)"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=default.steps,
        metavar="N",
        help="optimizer steps, each at another learning rate; fewer if the loss diverges (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="new directory (default: outputs/lr_find/DATE/TIME)")
    parser.add_argument("--config-dir", metavar="DIR", help="folder with config options of your own")
    add_trust(parser)
    options = parser.parse_intermixed_args(arguments)  # overrides may stand after an option
    with off_for_imports():
        from cifar_exp.cli.lr_find import lr_find

    log_to_console()
    lr_range = LRRange(options.min_lr, options.max_lr, options.steps)
    trust, overrides = trusted(options, options.overrides)
    overrides += [f"trust=[{','.join(trust)}]"] if trust else []
    suggestion = lr_find(overrides, lr_range, options.out, options.config_dir)
    return 0 if suggestion.max_lr is not None else 1
