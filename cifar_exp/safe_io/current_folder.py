"""The current folder may be a stranger's: no module and no setting in it is read by the program or its children."""

import contextlib
import os
import sys
from pathlib import Path

# `python -m` and `python -c` put the current folder first on the module path, and so start the workers of joblib,
# PyTorch, Ray and submitit. Python reads this variable when it starts.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
ELSEWHERE = Path(os.__file__).parent  # the standard library: a folder that is no stranger's


def import_matplotlib() -> None:
    """Where there is a ``./matplotlibrc``, import matplotlib without it: it would be read before any other.

    Called where a process starts, before Captum or a figure imports matplotlib.
    """
    if "matplotlib" not in sys.modules and os.path.lexists("matplotlibrc"):
        with contextlib.chdir(ELSEWHERE):
            import matplotlib  # noqa: F401
