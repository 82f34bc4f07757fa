"""Where log messages go: the terminal, and each run's own file."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def log_to_console() -> None:
    """Show the program's messages on standard output, as plain lines."""
    logging.raiseExceptions = False  # a closed pipe or a full disk must not bury the run in tracebacks
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger("cifar_exp")
    root.setLevel(logging.INFO)
    root.handlers = [handler]  # not added twice where the program is called twice in a process
    root.propagate = False


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Also append messages, warnings included, to ``path`` for the duration of the block."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger("cifar_exp"), logging.getLogger("py.warnings")]
    logging.getLogger("cifar_exp").setLevel(logging.INFO)
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
