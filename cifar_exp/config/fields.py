"""Description and constraint of a config class's field.

    width: Annotated[int, at_least(1)] = key("channels of the first layer", 32)

pydantic checks the values when a config is parsed. It is not imported here, so that ``--help`` stays fast.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from omegaconf import MISSING

_LARGEST = 1e30  # single precision ends at 3.4e38, and numbers are multiplied


def key(description: str, default: Any = MISSING, *, factory: Any = None) -> Any:
    """A field with its one-line description.

    Without a default, a YAML file must set the key.
    """
    metadata = {"description": description}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Schema:
    """Base of all config classes: pydantic refuses unknown keys, numbers that are not finite, and wrong defaults."""

    __pydantic_config__ = {  # noqa: RUF012
        "extra": "forbid",
        "allow_inf_nan": False,
        "validate_default": True,
        "coerce_numbers_to_str": True,
    }


@dataclass(frozen=True)
class Allowed:
    """A constraint with its own message: ``Annotated[int, Allowed("an even number", lambda n: n % 2 == 0)]``."""

    what: str  # completes "must be ..." in the error message
    accepts: Callable[[Any], bool]  # whether a value of the field's type is allowed
    convert: Callable[[Any], Any] | None = None  # applied first

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """The field's own schema followed by this check; called by pydantic."""
        from pydantic_core import PydanticCustomError, core_schema

        def check(value: Any, of_type: Callable[[Any], Any]) -> Any:
            if not isinstance(value, bool):  # pydantic would convert it to a number
                value = of_type(self.convert(value) if self.convert else value)
                if self.accepts(value):
                    return value
            raise PydanticCustomError("not_allowed", "must be {what}", {"what": self.what})

        return core_schema.no_info_wrap_validator_function(check, handler(source))


def between(low: float, high: float) -> Allowed:
    """From ``low`` to ``high``, both included."""
    return Allowed(f"between {low} and {high}", lambda value: low <= value <= high)


def at_least(low: float) -> Allowed:
    """From ``low`` up."""
    return Allowed(f"at least {low}", lambda value: value >= low)


def one_of(*choices: str) -> Allowed:
    """One of these texts."""
    return Allowed(f"one of {', '.join(choices)}", lambda value: value in choices)


Fraction = Annotated[float, between(0, 1)]
FractionInside = Annotated[float, Allowed("above 0 and below 1", lambda value: 0 < value < 1)]
FractionBelowOne = Annotated[float, Allowed("at least 0 and below 1", lambda value: 0 <= value < 1)]
_POSITIVE = Allowed(
    f"a finite number above 0, between {1 / _LARGEST:g} and {_LARGEST:g}",
    lambda value: 1 / _LARGEST <= value <= _LARGEST,
)
Positive = Annotated[float, _POSITIVE]
NotNegative = Annotated[
    float, Allowed(f"at least 0 and a finite number, at most {_LARGEST:g}", lambda value: 0 <= value <= _LARGEST)
]
Seed = Annotated[int, between(0, 2**63 - 1)]
Pixels = Annotated[int, between(4, 1024)]
# Larger values exhaust memory or time before the first step.
UpToAMillion = Annotated[int, between(1, 1_000_000)]
Count = Annotated[int, between(1, 1_000_000_000)]

AUTO = "auto"  # value of max_lr: an LR range test finds the learning rate


def _as_learning_rate(value: Any) -> Any:
    """A number from 1, 1.0 or "1", so that they are the same value; nan from anything else but ``auto``."""
    with suppress(ValueError, TypeError, OverflowError):
        return AUTO if value == AUTO else float(value)
    return math.nan


LearningRate = Annotated[
    Any,
    Allowed(f"{_POSITIVE.what}, or {AUTO}", lambda value: value == AUTO or _POSITIVE.accepts(value), _as_learning_rate),
]
