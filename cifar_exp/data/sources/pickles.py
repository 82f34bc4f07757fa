"""Unpickling a CIFAR batch without trusting it: no callable of Python's or NumPy's is reached.

A pickle is a program. It can call what it names, ask for memory that its few bytes do not hold, and give NumPy a state
that crashes it. So its instructions are held against a list first, and what arrays are made of in it is rebuilt
here from checked values.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cifar_exp.errors import RequestError

# What dictionaries, lists, texts, numbers and arrays are pickled with, up to protocol 5. Not among them: persistent
# identifiers, extension codes, and what asks for memory beforehand (BYTEARRAY8).
_INSTRUCTIONS = """
    PROTO FRAME STOP MARK POP POP_MARK DUP MEMOIZE
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
    EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS
    GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT GLOBAL STACK_GLOBAL REDUCE BUILD
"""
_STORES = ("PUT", "BINPUT", "LONG_BINPUT")
_MOST_STORED = 10_000_000  # slots of the memo, 8 bytes each; a real batch uses some 20,000
_TYPES = {"u1": np.uint8, "i4": np.int32, "i8": np.int64}


def read_pickle(content: bytes) -> dict[str, Any]:
    """Unpickle one CIFAR batch.

    Raises:
        RequestError: the pickle names a callable, or asks for what no batch needs.
        Exception: of many kinds: it is not a whole pickle.
    """
    allowed = frozenset(_INSTRUCTIONS.split())
    for instruction, argument, _ in pickletools.genops(content):
        if instruction.name not in allowed:
            raise RequestError(f"refused to unpickle: {instruction.name} is no part of a CIFAR batch")
        if instruction.name in _STORES and isinstance(argument, int) and not 0 <= argument < _MOST_STORED:
            raise RequestError(f"refused to unpickle: it asks for {argument} slots of memory")
    batch = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    if not isinstance(batch, dict):
        raise ValueError(f"a batch is a dictionary, not a {type(batch).__name__}")
    return {key: value.array() if isinstance(value, _Array) else value for key, value in batch.items()}


class _Type:
    """Stands for ``numpy.dtype``: one of the few types that a batch has."""

    def __init__(self, name: object, *_flags: object) -> None:
        if name not in _TYPES:
            raise ValueError(f"arrays of type {name!r:.40} are no part of a CIFAR batch")
        self.numpy = np.dtype(_TYPES[str(name)])

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.numpy = self.numpy.newbyteorder(state[1] if state[1] in ("<", ">") else "=")


class _Array:
    """Stands for ``numpy.ndarray``: takes the state of one, and makes it of the bytes that are there."""

    def __init__(self) -> None:
        self._state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._state = state

    def array(self) -> NDArray[Any]:
        """The array.

        Raises:
            ValueError: the bytes are not those of such an array.
        """
        _version, shape, dtype, fortran, content = self._state
        if not (isinstance(dtype, _Type) and isinstance(content, bytes | str)):
            raise ValueError("an array of a CIFAR batch is made of bytes")
        raw = content.encode("latin1") if isinstance(content, str) else content  # Python 2's texts are bytes
        return np.frombuffer(raw, dtype.numpy).reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: object, _shape: object, _code: object) -> _Array:
    if kind is not _Array:
        raise ValueError("only arrays are rebuilt")
    return _Array()


def _encode(text: object, encoding: object) -> bytes:
    """Stands for ``codecs.encode``, by which protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes are pickled as latin1 text")
    return text.encode("latin1")


class _ArraysOnly(pickle.Unpickler):
    """Resolves what arrays are pickled with, under NumPy's old and new module names, to stand-ins; nothing else."""

    _STAND_INS: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._STAND_INS[module, name]
        except KeyError:
            raise RequestError(
                f"refused to unpickle {module}.{name}: a CIFAR batch holds only arrays and lists"
            ) from None
