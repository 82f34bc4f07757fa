"""Logs a run to TensorBoard, MLflow or Weights & Biases: off by default, local, and never a reason for a run to fail.

Everything is read back from the run directory, so a tracker and the CSVs cannot differ: columns of ``metrics.csv``
under their own names at their own ``step``, those of ``steps.csv`` under ``steps/``, those of ``summary.csv`` under
``summary/``, the config, and the figures.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import RequestError

if TYPE_CHECKING:  # loads pandas, which is not needed to refuse a request
    from cifar_exp.trackers.tracker import Tracker

log = logging.getLogger(__name__)


def check(config: ExperimentConfig) -> None:
    """Refuse a config with a tracker that is not installed."""
    for name in config.tracker.names:
        if find_spec(name) is None:
            raise RequestError(f"tracker={name}: not installed; pip install 'cifar-exp[{name}]' or pip install {name}")


def has_store(name: str, config: ExperimentConfig, out_dir: Path) -> bool:
    """Whether a saved run's tracker writes only where it wrote before: a stranger's config creates no new store."""
    return name != "mlflow" or bool(_module(name).has_store(config, out_dir))  # the others write into the run directory


def _module(name: str) -> Any:
    """The tracker's module. It has ``begin(config, out_dir)``, which returns a ``Tracker``."""
    return import_module(f"{__name__}.{name}")


@contextmanager
def tracked(
    config: ExperimentConfig, out_dir: Path, state_after: Callable[[BaseException], str]
) -> Iterator[Callable[[], None]]:
    """Log the run in ``out_dir`` to the trackers of the config.

    A tracker that fails is disabled with a warning in the log; the run continues.

    ``state_after`` returns the run's state if it ends with an error.

    Yields:
        A function to be called after each epoch, once its rows are written.
    """
    check(config)
    active: dict[str, Tracker] = {}

    def attempt(name: str, step: Callable[[], None]) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the library's own deprecations
                step()
        except Exception as error:  # the run directory holds everything, so the run continues
            message = f"{type(error).__name__}: {error}".splitlines()[0]
            log.warning("Tracker %s failed and is disabled; the run continues: %s", name, message)
            active.pop(name, None)

    def begin(name: str) -> None:
        active[name] = _module(name).begin(config, out_dir)

    def after_epoch() -> None:
        for name, tracker in list(active.items()):
            attempt(name, tracker.after_epoch)

    def end(state: str) -> None:
        for name, tracker in list(active.items()):
            attempt(name, partial(tracker.end, state))

    for name in config.tracker.names:
        attempt(name, partial(begin, name))
    try:
        yield after_epoch
    except BaseException as error:
        end(state_after(error))
        raise
    end("completed")
