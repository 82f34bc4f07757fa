"""Logs a run to TensorBoard, MLflow or Weights & Biases: off by default, local, and never a reason for a run to fail.

Everything is read back from the run directory, so a tracker and the CSVs cannot differ: columns of ``metrics.csv``
under their own names at their own ``step``, those of ``steps.csv`` under ``steps/``, those of ``summary.csv`` under
``summary/``, the config, and the figures.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import RequestError

log = logging.getLogger(__name__)


def check(config: ExperimentConfig) -> None:
    """Refuse a config with a tracker that is not installed."""
    for name in config.tracker.names:
        if find_spec(name) is None:
            raise RequestError(f"tracker={name}: not installed; pip install 'cifar-exp[{name}]' or pip install {name}")


def has_store(name: str, config: ExperimentConfig, out_dir: Path) -> bool:
    """Whether a saved run's tracker writes only where it wrote before: a stranger's config creates no new store."""
    from cifar_exp.trackers import mlflow  # the others write into the run directory

    return name != "mlflow" or ((out_dir / mlflow.RUN_FILE).is_file() and mlflow.is_store(config.tracker.store or ""))


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
    active: dict[str, Any] = dict.fromkeys(config.tracker.names)

    def for_each(step: Callable[[str], None]) -> None:
        for name in list(active):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # the library's own deprecations
                    step(name)
            except Exception as error:  # the run directory holds everything, so the run continues
                message = f"{type(error).__name__}: {error}".splitlines()[0]
                log.warning("Tracker %s failed and is disabled; the run continues: %s", name, message)
                del active[name]

    def begin(name: str) -> None:
        active[name] = import_module(f"{__name__}.{name}").begin(config, out_dir)  # a ``Tracker``

    for_each(begin)
    state = "completed"
    try:
        yield lambda: for_each(lambda name: active[name].after_epoch())
    except BaseException as error:
        state = state_after(error)
        raise
    finally:
        for_each(lambda name: active[name].finish(state))
