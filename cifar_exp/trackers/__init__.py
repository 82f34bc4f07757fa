"""Logs a run to TensorBoard or MLflow: off by default, local, and never a reason for the run to fail.

Everything is read back from the run directory, so the two cannot differ: columns of ``metrics.csv`` under their own
names at their own ``step``, those of ``steps.csv`` under ``steps/``, those of ``summary.csv`` under ``summary/``, the
config's leaves by dotted key, and the figures.
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

if TYPE_CHECKING:  # loads pandas, which is not needed to refuse a request
    from cifar_exp.trackers.tracker import Tracker

log = logging.getLogger(__name__)


def check(config: Any) -> None:
    """Refuse a config whose tracker is not installed.

    Raises:
        RequestError: what to install.
    """
    name = config.tracker.name
    if name != "none" and find_spec(name) is None:
        raise RequestError(f"tracker={name}: not installed; pip install 'cifar-exp[{name}]' or pip install {name}")


def has_store(config: ExperimentConfig, out_dir: Path) -> bool:
    """Whether a saved run's tracker writes only where it wrote before: a stranger's config creates no new store."""
    name = config.tracker.name
    return name != "none" and bool(_module(name).has_store(config, out_dir))


def _module(name: str) -> Any:
    """The tracker's module. It has ``begin(config, out_dir)``, which returns a ``Tracker``, and ``has_store``."""
    return import_module(f"{__name__}.{name}")


@contextmanager
def tracked(
    config: ExperimentConfig, out_dir: Path, state_after: Callable[[BaseException], str]
) -> Iterator[Callable[[], None]]:
    """Log the run in ``out_dir`` to the tracker of the config.

    A tracker that fails is disabled with a warning in the log; the run continues.

    ``state_after`` returns the run's state if it ends with an error.

    Yields:
        A function to be called after each epoch, once its rows are written.

    Raises:
        RequestError: the tracker is not installed.
    """
    name = config.tracker.name
    if name == "none":
        yield lambda: None
        return
    check(config)
    tracker: Tracker | None = None

    def attempt(step: Callable[[], None]) -> None:
        nonlocal tracker
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the library's own deprecations
                step()
        except Exception as error:  # the run directory holds everything, so the run continues
            message = f"{type(error).__name__}: {error}".splitlines()[0]
            log.warning("Tracker %s failed and is disabled; the run continues: %s", name, message)
            tracker = None

    def begin() -> None:
        nonlocal tracker
        tracker = _module(name).begin(config, out_dir)

    def after_epoch() -> None:
        if tracker is not None:
            attempt(tracker.after_epoch)

    def end(state: str) -> None:
        if tracker is not None:
            attempt(lambda: tracker.end(state))

    attempt(begin)
    try:
        yield after_epoch
    except BaseException as error:
        end(state_after(error))
        raise
    end("completed")
