"""Where log messages go: the terminal, and each run's own file."""

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cifar_exp.safe_io.untrusted import printable

_label: str | None = None


def label_lines(label: str) -> None:
    """Begin every console line with ``[label]``, in a process that shares the console with others."""
    global _label
    _label = label


def shows_bars() -> bool:
    """Whether a progress bar may be shown: in a notebook, and in a terminal without labelled lines."""
    in_notebook = type(sys.stderr).__module__.startswith("ipykernel.")
    return (in_notebook or sys.stderr.isatty()) and _label is None


def tolerate_any_output() -> None:
    """Ignore closed output streams, and write characters that the terminal cannot encode as escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the calling program
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the life of the program
        elif type(stream) is io.TextIOWrapper and name == "stdout":
            sys.stdout = _Output(
                stream.buffer, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering
            )
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Output(io.TextIOWrapper):
    """Standard output that discards text if the disk is full, so that a run does not fail."""

    error: OSError | None = None

    def write(self, text: str) -> int:
        with self._dropped():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropped():
            super().flush()

    @contextmanager
    def _dropped(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            self.error = error
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


def output_is_lost() -> bool:
    """Whether standard output could not be written; if so, prints the error on stderr."""
    sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    if error is not None:
        complain(f"standard output cannot be written: {error.strerror}")
    return error is not None


def for_terminal(text: str) -> str:
    """Text with control characters as escapes, except line ends: names in it may be a stranger's."""
    return "\n".join(printable(line) for line in text.split("\n"))


class _ForTerminal(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return for_terminal(super().format(record))


def log_to_console() -> None:
    """Print the program's log on standard output, as plain lines."""
    logging.raiseExceptions = False  # no traceback for each line if the pipe is closed or the disk full
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_ForTerminal("%(message)s" if _label is None else f"[{_label}] %(message)s"))
    root = logging.getLogger("cifar_exp")
    root.setLevel(logging.INFO)
    root.handlers = [handler]  # replaced, so that a second call adds no second handler
    root.propagate = False


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Also append the log, warnings included, to ``path`` during the block."""
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger("cifar_exp"), logging.getLogger("py.warnings")]
    loggers[0].setLevel(logging.INFO)
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        logging.captureWarnings(False)
        handler.close()


def complain(message: str) -> None:
    """Print an error on stderr."""
    print(for_terminal(f"cifar-exp: {message}"), file=sys.stderr)
