"""The options of a config group: the allowed ``_target_``s and the typed config of each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from omegaconf import MISSING

from cifar_exp.config.fields import Schema, key


@dataclass
class Option(Schema):
    """Keys of every option of a group that names what it calls."""

    _target_: str = MISSING
    name: str = key("option's name, in tables and logs")


SchemaType = TypeVar("SchemaType", bound=type[Schema])


@dataclass(frozen=True)
class Group:
    """The registry of one group. The schema lookup and the allow-list of targets are derived from it."""

    name: str  # of the group
    shared: type[Schema]  # the keys that every option has, including the user's own options
    # Typed config by the name in a YAML file's ``defaults: [base_x, _self_]``.
    schemas: dict[str, type[Schema]] = field(default_factory=dict)
    # Typed config by ``_target_``; None for a callable without one, whose node stays a mapping.
    targets: dict[str, type[Schema] | None] = field(default_factory=dict)

    def option(self, name: str, *targets: str) -> Callable[[SchemaType], SchemaType]:
        """Register the decorated typed config.

        ``name`` is that of the base in its YAML file's ``defaults``. Without ``targets``, its default ``_target_`` is
        allowed.
        """

        def register(schema: SchemaType) -> SchemaType:
            self.schemas[name] = schema
            own: Any = schema
            for target in targets or (own._target_,):
                self.targets[target] = schema
            return schema

        return register

    def allow(self, targets: Iterable[str]) -> None:
        """Register targets without a typed config."""
        self.targets.update(dict.fromkeys(targets))
