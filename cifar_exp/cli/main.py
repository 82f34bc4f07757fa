"""The command line: which command, which exit code.

Nothing heavy is imported before it is known to be needed, so that ``--help`` and mistakes answer at once.
"""

import difflib
import errno
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import FrameType
from typing import NoReturn

from cifar_exp import __version__
from cifar_exp.cli.commands import COMMANDS
from cifar_exp.compute.distributed import torchrun
from cifar_exp.errors import DONE, FAILED, INTERRUPTED, TERMINATED, WRONG_REQUEST, RequestError
from cifar_exp.safe_io.console import complain, output_is_lost, tolerate_any_output
from cifar_exp.safe_io.current_folder import SAFE_PATH, import_matplotlib

# Each command's module has a function `main(arguments) -> exit code`.
_IN_SEVERAL_PROCESSES = ("resume", "reproduce")  # those of the commands that train
_TOP_LEVEL_KEYS = ("experiment", "model", "data", "augment", "optimizer", "scheduler", "epochs", "max_lr", "seed")


# What becomes of a path that the user named: not for this user, too long, a link to itself.
_CANNOT_BE_LOOKED_AT = (errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP)
SHOW_TRACEBACK = "CIFAR_EXP_TRACEBACK"  # environment variable: let an error that nobody expected end in its traceback


class _Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the program stands, so that a run can record that it was interrupted."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    tolerate_any_output()
    os.environ.update(SAFE_PATH)
    import_matplotlib()
    os.environ["MPLBACKEND"] = "agg"  # no window is ever opened, and a name unknown to matplotlib would end the run
    if torchrun.world_size() == 1:
        return _exit_code(partial(_start, arguments))
    from cifar_exp.compute.distributed import session
    from cifar_exp.run import run_on_other_rank

    return session.run_distributed(
        program=partial(_exit_code, partial(_start, arguments)),
        follow=partial(_exit_code, partial(session.follow_runs, run_on_other_rank)),
    )


def _start(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"cifar-exp {__version__}")
        return DONE
    try:
        os.getcwd()
    except OSError as error:  # it was deleted
        raise RequestError(f"the current folder cannot be used ({error.strerror}); change to another one") from error
    if arguments and not _is_hydras(arguments[0]):
        return _command(arguments[0], arguments[1:])
    from cifar_exp.cli.hydra_app import experiment

    return experiment(arguments)


def _exit_code(program: Callable[[], int]) -> int:
    """Run the program; what ends it otherwise becomes an exit code, too."""
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        code = program()
        return code or (FAILED if output_is_lost() else DONE)
    except RequestError as error:
        complain(str(error))
        return WRONG_REQUEST
    except BrokenPipeError:  # whoever read our output has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except _Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # a full disk, too little memory, or a mistake of the program's own
        if os.environ.get(SHOW_TRACEBACK):
            raise
        complain(f"{type(error).__name__}: {error}\n{SHOW_TRACEBACK}=1 in the environment shows where")
        return WRONG_REQUEST if isinstance(error, OSError) and error.errno in _CANNOT_BE_LOOKED_AT else FAILED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated("stopped by SIGTERM")


def _is_hydras(argument: str) -> bool:
    return "=" in argument or argument.startswith(("-", "+", "~"))


def _command(name: str, arguments: list[str]) -> int:
    if name in COMMANDS:
        if name not in _IN_SEVERAL_PROCESSES:
            torchrun.require_one_process(name)
        return int(import_module(COMMANDS[name]).main(arguments))
    from cifar_exp.config.suggestions import USUAL_COMMANDS

    if usual := USUAL_COMMANDS.get(name):
        raise RequestError(f"{name}: no such command; {usual}")
    near = difflib.get_close_matches(name, [*COMMANDS, *_TOP_LEVEL_KEYS], n=1)
    meant = f" (did you mean {near[0] if near[0] in COMMANDS else near[0] + '=...'}?)" if near else ""
    raise RequestError(f"{name}: neither a command nor key=value{meant}; `cifar-exp --help` lists both")
