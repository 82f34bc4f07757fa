"""Malformed input: how many of them a test tries, odd values, and bytes that were damaged."""

import os
import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FACTOR = int(os.environ.get("CIFAR_EXP_FUZZ", "1"))
tried: Counter[str] = Counter()


def fuzz(examples: int, *strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """Try so many inputs, times the factor, and count them."""

    def decorate(test: Callable[..., None]) -> Any:
        def counted(inputs: tuple[Any, ...]) -> None:
            tried[test.__name__] += 1
            with warnings.catch_warnings():  # pandas' and NumPy's of odd values are not what is looked for
                warnings.simplefilter("ignore")
                test(*inputs)

        counted.__name__ = counted.__qualname__ = test.__name__
        limits = settings(
            max_examples=examples * FACTOR,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            derandomize=FACTOR == 1,
        )
        return limits(given(st.tuples(*strategies))(counted))

    return decorate


FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))


def put(name: str, content: bytes | str) -> Path:
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


TEXT = st.text(max_size=30)
ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        2**63,
        10**400,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "???",
        "${oc.env:HOME}",
        "${",
        "${a}",
        "=1",
        "null",
        "\x00",
        "\x1b[2J",
        "\ud800",
        "os.system",
        [],
        {},
        [[]],
        {"_target_": "os.system"},
        {"a": {"_target_": 1}},
    ]
)
VALUES = st.recursive(
    ODD | TEXT | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def bitten(content: bytes, seed: int) -> bytes:
    """Some bytes changed, cut out, doubled, or the end cut off."""
    draw = random.Random(seed)
    raw = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        at = draw.randrange(len(raw) + 1)
        kind = draw.randrange(5)
        if kind == 0 and at < len(raw):
            raw[at] = draw.randrange(256)
        elif kind == 1:
            del raw[at : at + draw.randint(1, 9)]
        elif kind == 2:
            raw[at:at] = raw[at : at + draw.randint(1, 40)]
        elif kind == 3:
            raw[at:at] = draw.choice(
                [b"\x00", b"\xff\xfe", b'"', b"\n", b"\r", b",", b"'", b"nan", b"-", b"9" * 400, b"="]
            )
        elif draw.random() < 0.3:
            del raw[at:]
    return bytes(raw)


SEEDS = st.integers(0, 2**64)
