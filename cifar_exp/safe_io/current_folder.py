"""Keeps the program and its child processes from reading modules and settings of the current folder."""

import contextlib
import os
import sys
from pathlib import Path

# `python -m` and `python -c` put the current folder first on the module path; joblib, PyTorch, Ray and submitit start
# their workers so. Python reads this variable when it starts.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
ELSEWHERE = Path(os.__file__).parent  # the standard library's folder, which is trusted


def import_matplotlib() -> None:
    """Import matplotlib without reading ``./matplotlibrc``, which would take precedence.

    Called at the start of a process, before Captum or a figure imports matplotlib.
    """
    if "matplotlib" not in sys.modules and os.path.lexists("matplotlibrc"):
        with contextlib.chdir(ELSEWHERE):
            import matplotlib  # noqa: F401
