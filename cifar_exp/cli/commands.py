"""The commands and their arguments, also for ``--help``. A command's module is imported once they are parsed."""

import argparse
import shlex
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from cifar_exp.compute.memory import collector_off_for_imports


class Command(NamedTuple):
    """A command. ``main(options)`` of the module ``cifar_exp.cli.NAME`` runs it and returns the exit code."""

    usage: str  # its arguments, for ``--help``
    purpose: str  # one line, for ``--help``
    add_arguments: Callable[[argparse.ArgumentParser], None]


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Parse the arguments of a command and run it; returns the exit code.

    Raises:
        RequestError: the request itself is wrong.
        SystemExit: argparse printed the help, or a message about wrong arguments.
    """
    from cifar_exp.cli.run_names import find_run

    command = COMMANDS[name]
    purpose = f"{command.purpose[0].upper()}{command.purpose[1:]}."
    parser = argparse.ArgumentParser(prog=f"cifar-exp {name}", description=purpose)
    command.add_arguments(parser)
    options = parser.parse_intermixed_args(arguments)  # an override may follow an option
    for key in vars(options).keys() & {"run", "path", "runs"}:  # shortened names of runs
        given = getattr(options, key)
        setattr(options, key, [find_run(one) for one in given] if isinstance(given, list) else find_run(given))
    options.command = shlex.join(["cifar-exp", name, *arguments])
    with collector_off_for_imports():
        module = import_module(f"cifar_exp.cli.{name.replace('-', '_')}")
    if "trust" in options:  # of the commands that train or evaluate
        from cifar_exp.config.overrides import split_trust
        from cifar_exp.safe_io.console import log_to_console

        log_to_console()
        packages, options.overrides = split_trust(vars(options).get("overrides", []))
        options.trust += packages
    return int(module.main(options))


def _add_out(parser: argparse.ArgumentParser, folder: str) -> None:
    what = f"new directory (default: outputs/{folder}/DATE/TIME)"
    parser.add_argument("--out", metavar="DIR", type=Path, help=what)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="directory of a completed run")


def _add_weights(parser: argparse.ArgumentParser, purpose: str) -> None:
    what = f"checkpoint to {purpose} (default: the one that the run evaluated)"
    parser.add_argument("--weights", choices=("last", "best"), help=what)


def _add_trust(parser: argparse.ArgumentParser) -> None:
    what = "allow the run to call your own package"
    parser.add_argument("--trust", metavar="PACKAGE", action="append", default=[], help=what)


def _add_overrides(parser: argparse.ArgumentParser, metavar: str, what: str) -> None:
    """The overrides; and the packages to trust, by ``--trust PACKAGE`` or ``trust=[PACKAGE]``."""
    parser.add_argument("overrides", nargs="*", metavar=metavar, help=what)
    _add_trust(parser)


def _lr_find(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run an LR range test: train a copy of the network at a rising learning rate, record the loss and suggest a "
        "max_lr. The experiment's own max_lr and epochs are not used."
    )
    parser.epilog = "Example: cifar-exp lr-find experiment=quickstart optimizer=adamw"
    _add_overrides(parser, "KEY=VALUE", "overrides of the experiment, as for a run")
    what = "first learning rate (default: %(default)g)"
    parser.add_argument("--min-lr", metavar="LR", type=float, default=1e-5, help=what)
    what = "last learning rate (default: %(default)g)"
    parser.add_argument("--max-lr", metavar="LR", type=float, default=10.0, help=what)
    what = "optimizer steps, each at its own learning rate; fewer if the loss diverges (default: %(default)s)"
    parser.add_argument("--steps", metavar="N", type=int, default=100, help=what)
    _add_out(parser, "lr_find")
    parser.add_argument("--config-dir", metavar="DIR", help="folder with your own config options")


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.description = "Find the runs under the paths and compare them: a table, CSVs and figures."
    parser.epilog = "A run that failed, diverged or is still running is listed with its state and never averaged in."
    what = "run directory, sweep, or a folder above"
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help=what)
    what = "column of summary.csv to order by (default: val_accuracy if all runs have one, else test_accuracy)"
    parser.add_argument("--metric", help=what)
    what = "run to compare the others with (default: the best by val_accuracy)"
    parser.add_argument("--baseline", metavar="RUN", help=what)
    what = "comma-separated config keys whose values repeat one setting, as seed,data.split_seed (default: %(default)s)"
    parser.add_argument("--over", metavar="KEY[,KEY...]", default="seed", help=what)
    default = Path("outputs", "comparison")
    what = "output folder (default: %(default)s)"
    parser.add_argument("--out", metavar="DIR", type=Path, default=default, help=what)
    what = "show, test and draw the best N runs; the CSVs of runs and groups hold all (default: %(default)s)"
    parser.add_argument("--top", metavar="N", type=int, default=20, help=what)
    parser.add_argument("--no-page", dest="page", action="store_false", help="do not write comparison.html")
    what = "format of the printed tables (default: %(default)s)"
    parser.add_argument("--format", choices=("table", "csv", "markdown"), default="table", help=what)


def _resume(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Resume an interrupted or failed run from its last checkpoint; results are identical to an uninterrupted run. "
        "Resume a sweep: completed jobs are skipped, all others run."
    )
    parser.epilog = "A sweep does not record --config-dir, trust=... and Hydra's own settings: give them again."
    parser.add_argument("path", metavar="RUN_OR_SWEEP", type=Path, help="directory of a run or a sweep")
    _add_overrides(parser, "KEY=VALUE", "of a sweep: hydra.KEY=... and sweep.fail_fast=...; of a run: explain.images=N")
    parser.add_argument("--config-dir", metavar="DIR", help="folder with your own config options")


def _reproduce(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    _add_overrides(parser, "trust=[PACKAGE]", "the same as --trust PACKAGE")
    _add_out(parser, "reproductions")
    parser.add_argument("--data-root", metavar="PATH", type=Path, help="location of the data on this machine")
    what = "treat values as equal if they differ by at most T (default: %(default)g)"
    parser.add_argument("--tolerance", metavar="T", type=float, default=0.0, help=what)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    from cifar_exp.config.schema import OVERRIDABLE

    parser.epilog = "Example: cifar-exp evaluate outputs/2026-11-22/10-00-00-000000 data=image_folder data.root=/data/x"
    _add_run(parser)
    _add_overrides(parser, "KEY=VALUE", f"overrides of {', '.join(OVERRIDABLE)}")
    _add_weights(parser, "evaluate")
    _add_out(parser, "evaluations")


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.description = "Classify images by a run's network, from the run directory alone; no labels are needed."
    parser.epilog = "Example: cifar-exp predict latest photo.jpg folder --explain"
    _add_run(parser)
    what = "image, folder of images, or - for a list of paths on standard input"
    parser.add_argument("paths", metavar="PATH", nargs="+", help=what)
    what = "write the probabilities of all classes, not only of the best five"
    parser.add_argument("--probabilities", action="store_true", help=what)
    parser.add_argument("--explain", action="store_true", help="draw Grad-CAM maps of the first 40 images")
    _add_weights(parser, "use")
    what = "auto, cpu, cuda or mps (default: the device of the run's config)"
    parser.add_argument("--device", metavar="DEVICE", help=what)
    _add_out(parser, "predictions")
    _add_trust(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Export a run's network and check that the file computes the same. The formats onnx and torch include "
        "normalization and softmax; safetensors holds only the weights."
    )
    parser.epilog = "Example: cifar-exp export latest --format onnx --out model.onnx"
    _add_run(parser)
    what = "onnx, torch (torch.export) or safetensors (only weights) (default: %(default)s)"
    parser.add_argument("--format", choices=("onnx", "torch", "safetensors"), default="onnx", help=what)
    _add_weights(parser, "use")
    what = "new file (default: outputs/exports/DATE/TIME/model.SUFFIX)"
    parser.add_argument("--out", metavar="FILE", type=Path, help=what)
    _add_trust(parser)


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="*", type=Path, help="folder (default: outputs)")
    what = "column of the list or of summary.csv, or config key; the best first, settings in ascending order"
    parser.add_argument("--sort", metavar="COLUMN", help=what)
    what = "format of the list (default: %(default)s)"
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help=what)


def _report(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Example: cifar-exp report outputs/2026-11-22/10-00-00-000000"
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run directory")


COMMANDS = {
    "lr-find": Command("[KEY=VALUE ...]", "suggest a max_lr by an LR range test", _lr_find),
    "compare": Command("PATH...", "what differs, by how much, and whether that is significant", _compare),
    "resume": Command("RUN", "continue an interrupted run or sweep", _resume),
    "reproduce": Command("RUN", "run the saved config again and compare the metrics", _reproduce),
    "evaluate": Command("RUN", "evaluate the checkpoint again, on its own or on other data", _evaluate),
    "predict": Command("RUN PATH...", "classify images, from the run directory alone", _predict),
    "export": Command("RUN", "write the network as ONNX, torch.export or safetensors", _export),
    "list": Command("[PATH...]", "list the runs, newest first", _list),
    "report": Command("RUN...", "write report.html again, from the run directory alone", _report),
}
