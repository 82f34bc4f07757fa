"""The command line: the only place that knows Hydra's runtime and ``sys.argv``.

Nothing heavy is imported before it is known to be needed, so that ``--help`` and mistakes answer at once.
"""

import difflib
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from cifar_exp.errors import DivergedError, RequestError

DONE, FAILED, WRONG_REQUEST, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

# Each command's module has a function `main(arguments) -> exit code`.
COMMANDS = {
    "reproduce": "cifar_exp.reproduce",
    "evaluate": "cifar_exp.evaluate_run",
    "compare": "cifar_exp.compare.command",
}
_TOP_LEVEL_KEYS = ("experiment", "model", "data", "augment", "optimizer", "scheduler", "epochs", "max_lr", "seed")


class _Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the program stands, so that a run can record that it was interrupted."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        if arguments and not _is_hydras(arguments[0]):
            return _command(arguments[0], arguments[1:])
        return _experiment(arguments)
    except RequestError as error:
        _complain(str(error))
        return WRONG_REQUEST
    except BrokenPipeError:  # whoever read our output has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except _Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _complain(message: str) -> None:
    print(f"cifar-exp: {message}", file=sys.stderr)


def _is_hydras(argument: str) -> bool:
    return "=" in argument or argument.startswith(("-", "+", "~"))


def _command(name: str, arguments: list[str]) -> int:
    if name in COMMANDS:
        return int(import_module(COMMANDS[name]).main(arguments))
    near = difflib.get_close_matches(name, [*COMMANDS, *_TOP_LEVEL_KEYS], n=1)
    meant = f" (did you mean {near[0] if near[0] in COMMANDS else near[0] + '=...'}?)" if near else ""
    raise RequestError(f"{name}: neither a command nor key=value{meant}; `cifar-exp --help` lists both")


def _experiment(arguments: list[str]) -> int:
    """One run or a sweep, by Hydra."""
    import hydra
    from hydra._internal.utils import get_args_parser

    from cifar_exp.schema import register_schemas

    register_schemas()
    flags = get_args_parser().parse_args(arguments)
    if flags.experimental_rerun:
        raise RequestError("--experimental-rerun unpickles a file; `cifar-exp reproduce RUN` does not")
    if flags.config_path:
        raise RequestError("--config-path would hide the shipped options; --config-dir adds yours to them")
    if sum(map(bool, (flags.run, flags.multirun, flags.cfg, flags.info, flags.shell_completion))) > 1:
        raise RequestError("only one of --run, -m, --cfg, --info and --shell-completion at a time")
    if flags.help:
        return _help(flags)
    if not (flags.hydra_help or flags.info or flags.shell_completion):
        _check_first(flags)
    codes: list[int] = []

    @hydra.main(version_base="1.3", config_path="pkg://cifar_exp.conf", config_name="config")
    def task(config: Any) -> float | None:
        from hydra.core.hydra_config import HydraConfig

        from cifar_exp.config import resolve

        runtime = HydraConfig.get().runtime
        code, summary = run_job(resolve(config, runtime.cwd), Path(runtime.output_dir))
        codes.append(code)
        return None if summary is None else summary["best_val_accuracy"]

    sys.argv = [sys.argv[0], *arguments]  # where Hydra looks
    task()
    if len(codes) == 1:
        return codes[0]
    return FAILED if any(codes) else DONE


def _help(flags: Any) -> int:
    from cifar_exp.compose import help_text

    print(help_text(flags.overrides, config_dir=_config_dir(flags)))
    return DONE


def _config_dir(flags: Any) -> str | None:
    return os.path.abspath(flags.config_dir) if flags.config_dir else None


def _check_first(flags: Any) -> None:
    """Compose and validate every job before the first one starts, and refuse a directory that is in use."""
    from cifar_exp.compose import compose_jobs

    jobs = compose_jobs(
        flags.overrides,
        config_name=flags.config_name or "config",
        config_dir=_config_dir(flags),
        multirun=flags.multirun,
    )
    if flags.cfg:
        return
    from cifar_exp.records import is_taken

    # Hydra would write its own files there before the run could refuse.
    node = jobs[0].hydra
    folder = Path(node.sweep.dir if flags.multirun else node.run.dir)
    what, key = ("sweep", "hydra.sweep.dir") if flags.multirun else ("run", "hydra.run.dir")
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise RequestError(f"{folder}: {there} is not a folder that can be written to; name another by {key}=...")
    if (folder / "multirun.yaml").exists() if flags.multirun else is_taken(folder):
        raise RequestError(f"{folder}: holds a {what} already; choose another directory ({key}=...) or remove it")


def run_job(config: dict[str, Any], out_dir: Path) -> tuple[int, dict[str, Any] | None]:
    """Run one job; what goes wrong in it is recorded in its own directory and told in a line on stderr.

    Returns:
        The exit code that the job alone would have, and its summary row if it completed.
    """
    from cifar_exp.lifecycle import run_name
    from cifar_exp.logs import log_to_console
    from cifar_exp.run import run

    log_to_console()
    try:
        return DONE, run(config, out_dir)
    except RequestError as error:
        _complain(str(error))
        return WRONG_REQUEST, None
    except DivergedError as error:
        _complain(f"{run_name(out_dir)} diverged: {error}")
    except Exception as error:  # whatever it was, the other jobs of a sweep go on
        _complain(
            f"{run_name(out_dir)} failed: {type(error).__name__}: {error}\n"
            f"the traceback is in {run_name(out_dir)}/run.log"
        )
    return FAILED, None
