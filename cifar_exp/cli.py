"""The command line: the only place that knows Hydra's runtime and ``sys.argv``.

Nothing heavy is imported before it is known to be needed, so that ``--help`` and mistakes answer at once.
"""

import difflib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from cifar_exp.errors import RequestError

DONE, FAILED, WRONG_REQUEST, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

# name: one line of help. Each is a module-level function below.
COMMANDS: dict[str, Callable[[list[str]], int]] = {}


class _Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the program stands, so that a run can record that it was interrupted."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGTERM, _terminate)
    try:
        if arguments and not _is_hydras(arguments[0]):
            return _command(arguments[0])(arguments[1:])
        return _experiment(arguments)
    except RequestError as error:
        print(f"cifar-exp: {error}", file=sys.stderr)
        return WRONG_REQUEST
    except _Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _is_hydras(argument: str) -> bool:
    return "=" in argument or argument.startswith(("-", "+", "~"))


def _command(name: str) -> Callable[[list[str]], int]:
    if name in COMMANDS:
        return COMMANDS[name]
    near = difflib.get_close_matches(name, [*COMMANDS, *_TOP_LEVEL_KEYS], n=1)
    hint = f"; did you mean {near[0]}{'' if near[0] in COMMANDS else '=...'}?" if near else ""
    raise RequestError(f"{name}: not a command, and not key=value{hint} `cifar-exp --help` lists both")


_TOP_LEVEL_KEYS = ("experiment", "model", "data", "augment", "optimizer", "scheduler", "epochs", "max_lr", "seed")


def _experiment(arguments: list[str]) -> int:
    """One run or a sweep, by Hydra."""
    import hydra
    from hydra._internal.utils import get_args_parser

    from cifar_exp.schema import register_schemas

    register_schemas()
    flags = get_args_parser().parse_args(arguments)
    if not (flags.help or flags.hydra_help or flags.info or flags.shell_completion):
        _check_first(flags)

    failed: list[str] = []

    @hydra.main(version_base="1.3", config_path="pkg://cifar_exp.conf", config_name="config")
    def task(config: Any) -> float | None:
        from hydra.core.hydra_config import HydraConfig

        from cifar_exp.config import resolve

        summary = _run(resolve(config), Path(HydraConfig.get().runtime.output_dir))
        if summary is None:
            failed.append(HydraConfig.get().runtime.output_dir)
            return None
        return summary["best_val_accuracy"]

    sys.argv = [sys.argv[0], *arguments]
    task()
    if failed:
        print(f"cifar-exp: {len(failed)} of the runs did not complete", file=sys.stderr) if flags.multirun else None
        return FAILED
    return DONE


def _check_first(flags: Any) -> None:
    """Compose and validate every job before the first one starts, and refuse directories in use."""
    from cifar_exp.compose import compose_jobs

    jobs = compose_jobs(
        flags.overrides,
        config_name=flags.config_name or "config",
        config_dir=flags.config_dir and os.path.abspath(flags.config_dir),
        multirun=flags.multirun,
    )
    if flags.cfg:
        return
    used = (
        Path(jobs[0].hydra.sweep.dir, "multirun.yaml") if flags.multirun else Path(jobs[0].hydra.run.dir, "status.json")
    )
    if used.exists():
        raise RequestError(
            f"{used.parent}: holds a run or sweep already; nothing was touched. Choose another directory."
        )


def _run(config: dict[str, Any], out_dir: Path) -> dict[str, Any] | None:
    """Run one job. What goes wrong in it stays in its own directory; returns None then."""
    from cifar_exp.errors import DivergedError
    from cifar_exp.logs import log_to_console
    from cifar_exp.run import run

    log_to_console()
    try:
        return run(config, out_dir)
    except DivergedError:
        return None
    except Exception:
        return None
