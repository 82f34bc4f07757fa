"""What a run records, told to TensorBoard or MLflow, too: off unless asked for, local, and never in a run's way.

Everything that a tracker is told is read back from the run directory, so the two can never say different things:
columns of ``metrics.csv`` under their own names at their own ``step``, those of ``steps.csv`` under ``steps/``, those
of ``summary.csv`` under ``summary/``, the config's leaves by dotted key, and the figures.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import RequestError

if TYPE_CHECKING:  # it loads pandas, which no wrong request should wait for
    from cifar_exp.trackers.tracker import Tracker

log = logging.getLogger(__name__)

TRACKERS = {"tensorboard": "cifar_exp.trackers.tensorboard", "mlflow": "cifar_exp.trackers.mlflow"}


def check(config: Any) -> None:
    """Refuse a config whose tracker is not installed.

    Raises:
        RequestError: what to install.
    """
    name = config.tracker.name
    if name != "none" and find_spec(name) is None:
        raise RequestError(f"tracker={name}: not installed; pip install 'cifar-exp[{name}]' or pip install {name}")


@contextmanager
def tracked(
    config: ExperimentConfig, out_dir: Path, state_after: Callable[[BaseException], str]
) -> Iterator[Callable[[], None]]:
    """Keep the tracker that the config asks for up to date with the run in ``out_dir``.

    A tracker that fails is given up with a warning in the log; the run goes on.

    Args:
        config: resolved.
        out_dir: the run directory, already claimed.
        state_after: the run's state if this error ends it.

    Yields:
        A function to be called after each epoch, when its rows are in the records.

    Raises:
        RequestError: the tracker is not installed.
    """
    name = config.tracker.name
    if name == "none":
        yield lambda: None
        return
    check(config)
    tracker: Tracker | None = None

    def tell(step: Callable[[], None]) -> None:
        nonlocal tracker
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the library's own deprecations are nothing to the user
                step()
        except Exception as error:  # whatever it was, the records are safe and the run matters more
            told = f"{type(error).__name__}: {error}".splitlines()[0]
            log.warning("Tracker %s failed and is given up; the run goes on: %s", name, told)
            tracker = None

    def begin() -> None:
        nonlocal tracker
        tracker = import_module(TRACKERS[name]).begin(config, out_dir)

    def after_epoch() -> None:
        if tracker is not None:
            tell(tracker.after_epoch)

    def end(state: str) -> None:
        if tracker is not None:
            tell(lambda: tracker.end(state))

    tell(begin)
    try:
        yield after_epoch
    except BaseException as error:
        end(state_after(error))
        raise
    end("completed")
