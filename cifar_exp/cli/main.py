"""The command line: which command, which exit code.

Nothing heavy is imported before it is needed, so that ``--help`` and error messages appear at once.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import NoReturn

from cifar_exp import __version__
from cifar_exp.cli.commands import COMMANDS, run_command
from cifar_exp.compute.distributed import torchrun
from cifar_exp.errors import DONE, FAILED, INTERRUPTED, TERMINATED, WRONG_REQUEST, RequestError
from cifar_exp.safe_io.console import complain, output_is_lost, tolerate_any_output
from cifar_exp.safe_io.current_folder import SAFE_PATH, import_matplotlib

SHOW_TRACEBACK = "CIFAR_EXP_TRACEBACK"  # environment variable: show the traceback of an unexpected error
_TRAINING_COMMANDS = ("resume", "reproduce")  # can run in several processes
_BAD_PATH = (errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP)  # a path that the user named cannot be accessed


class _Terminated(KeyboardInterrupt):
    """SIGTERM as an exception, so that a run can record that it was interrupted."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    tolerate_any_output()
    os.environ.update(SAFE_PATH)
    import_matplotlib()
    os.environ["MPLBACKEND"] = "agg"  # no window is ever opened; an unknown backend in the environment is an error
    if torchrun.world_size() == 1:
        return _exit_code(partial(_dispatch, arguments))
    from cifar_exp.compute.distributed import session
    from cifar_exp.runner import run_on_other_rank

    return session.run_distributed(
        program=partial(_exit_code, partial(_dispatch, arguments)),
        follow=partial(_exit_code, partial(session.follow_runs, run_on_other_rank)),
    )


def _dispatch(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"cifar-exp {__version__}")
        return DONE
    try:
        os.getcwd()
    except OSError as error:  # it was deleted
        raise RequestError(f"the current folder cannot be used ({error.strerror}); change to another one") from error
    if not arguments or "=" in arguments[0] or arguments[0].startswith(("-", "+", "~")):
        from cifar_exp.cli.hydra_app import run_experiment

        return run_experiment(arguments)
    name = arguments[0]
    if name not in COMMANDS:
        from cifar_exp.config.suggestions import suggest_command

        hint = suggest_command(name, list(COMMANDS))
        raise RequestError(f"{name}: neither a command nor key=value{hint}; `cifar-exp --help` lists both")
    if name not in _TRAINING_COMMANDS:
        torchrun.require_one_process(name)
    return run_command(name, arguments[1:])


def _exit_code(program: Callable[[], int]) -> int:
    """Run the program and turn every way in which it can end into an exit code."""
    handlers = {signal.SIGTERM: _terminate, signal.SIGINT: signal.default_int_handler}
    ignored = [number for number in handlers if signal.getsignal(number) == signal.SIG_IGN]
    previous = {number: signal.signal(number, handlers[number]) for number in handlers if number not in ignored}
    try:
        try:
            code = program()
        except SystemExit as end:  # argparse has printed a help or a message
            code = int(end.code or DONE)
        return code or (FAILED if output_is_lost() else DONE)
    except RequestError as error:
        complain(str(error))
        return WRONG_REQUEST
    except BrokenPipeError:  # the reader closed the pipe, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except _Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # a full disk, too little memory, or a bug
        if os.environ.get(SHOW_TRACEBACK):
            raise
        complain(f"{type(error).__name__}: {error}\nset {SHOW_TRACEBACK}=1 in the environment to see the traceback")
        return WRONG_REQUEST if isinstance(error, OSError) and error.errno in _BAD_PATH else FAILED
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated("stopped by SIGTERM")
