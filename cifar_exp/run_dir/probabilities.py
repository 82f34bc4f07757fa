"""``probabilities.npz``: the softmax probabilities of every test image, in the order of ``predictions.csv``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar_exp.run_dir.arrays import read_arrays, write_arrays

FILE = "probabilities.npz"

_MOST_BYTES = 2**28  # 50,000 images of 1,000 classes take 200 MB


def write(
    path: Path,
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    *,
    with_tta: NDArray[np.float32] | None = None,
) -> None:
    """Write ``probabilities`` (N, C) float32, ``labels`` (N,) and ``class_names`` (C,).

    With test-time augmentation there is a fourth array, ``probabilities_tta`` (N, C) float32.
    """
    more = {} if with_tta is None else {"probabilities_tta": with_tta}
    names = np.array(list(class_names), dtype=np.str_)
    write_arrays(path, probabilities=probabilities, labels=labels, class_names=names, **more)


def read(path: Path) -> NDArray[np.float32]:
    """The (N, C) probabilities. The file is untrusted (see ``read_arrays``).

    Raises:
        OSError: it cannot be opened or read.
        ValueError: it is damaged, or not such a file.
    """
    found = read_arrays(path, ("probabilities",), most_bytes=_MOST_BYTES)["probabilities"]
    if found.ndim != 2 or found.dtype != np.float32:
        raise ValueError(f"its probabilities are {found.dtype} {found.shape}")
    return found
