"""Files of NumPy arrays (``.npz``) in a run directory: written atomically, read without trust."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_exp.safe_io import atomic, untrusted

PROBABILITIES = "probabilities.npz"  # softmax probabilities of every test image, in the order of predictions.csv
_MOST_PROBABILITIES = 2**28  # bytes; 50,000 images of 1,000 classes take 200 MB


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays, compressed; the same arrays make the same file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    atomic.write_bytes(path, buffer.getvalue())


def read_arrays(path: Path, names: Sequence[str], *, most_bytes: int) -> dict[str, NDArray[Any]]:
    """Read the named arrays of an untrusted file, which may unpack to ``most_bytes``; nothing in it is unpickled.

    Raises:
        OSError: it cannot be opened or read.
        ValueError: it is damaged or too large, or lacks one of the arrays.
    """
    with untrusted.open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if sum(member.file_size for member in archive.infolist()) > most_bytes:
                    raise ValueError(f"it unpacks to more than {most_bytes:,} bytes")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: np.asarray(arrays[name]) for name in names}  # a member that is no array comes as bytes
        except (OSError, ValueError):
            raise
        except Exception as error:
            # zipfile, zlib and NumPy, whose headers are Python's syntax and may ask for any amount of memory, each
            # raise errors of their own on a few wrong bits: RuntimeError, MemoryError, OverflowError, TokenError...
            raise ValueError(f"its arrays cannot be read: {error}") from error


def read_probabilities(path: Path) -> NDArray[np.float32]:
    """Read the (N, C) float32 array ``probabilities`` of a file that ``read_arrays`` reads.

    Raises:
        OSError, ValueError: as ``read_arrays``.
    """
    probabilities = read_arrays(path, ("probabilities",), most_bytes=_MOST_PROBABILITIES)["probabilities"]
    if probabilities.ndim != 2 or probabilities.dtype != np.float32:
        raise ValueError(f"its probabilities are {probabilities.dtype} {probabilities.shape}")
    return probabilities
