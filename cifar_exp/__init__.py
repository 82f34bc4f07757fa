"""Train, explain, reproduce and compare image classifiers on CIFAR-10, configured by Hydra.

The Python API, described in docs/python.md: ``compose``, ``run``, ``load_run`` and ``read_runs``. Each is imported when
it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cifar_exp.compute.memory import collector_off_for_imports

if TYPE_CHECKING:
    from cifar_exp.compare.typed_runs import read_runs
    from cifar_exp.config.compose import compose_config as compose
    from cifar_exp.errors import RequestError
    from cifar_exp.loaded_run import load_run
    from cifar_exp.runner import run

__all__ = ["RequestError", "__version__", "compose", "load_run", "read_runs", "run"]
__version__ = "0.2.0"

_HOMES = {
    "RequestError": "cifar_exp.errors.RequestError",
    "compose": "cifar_exp.config.compose.compose_config",
    "load_run": "cifar_exp.loaded_run.load_run",
    "read_runs": "cifar_exp.compare.typed_runs.read_runs",
    "run": "cifar_exp.runner.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].rpartition(".")
    with collector_off_for_imports():
        globals()[name] = getattr(import_module(module), attribute)  # found there from now on
    return globals()[name]
