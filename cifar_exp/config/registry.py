"""The options of a config group: the allowed ``_target_``s and the typed config of each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cifar_exp.config.fields import Schema

SchemaType = TypeVar("SchemaType", bound=type[Schema])


@dataclass(frozen=True)
class Group:
    """The registry of one group. The schema lookup and the allow-list of targets are derived from it.

    Attributes:
        name: of the group.
        shared: the keys that every option has, including the user's own options.
        schemas: typed config by the name in a YAML file's ``defaults: [base_x, _self_]``.
        targets: typed config by ``_target_``; None for a callable without one, whose node stays a mapping.
    """

    name: str
    shared: type[Schema]
    schemas: dict[str, type[Schema]] = field(default_factory=dict)
    targets: dict[str, type[Schema] | None] = field(default_factory=dict)

    def option(self, name: str, *targets: str) -> Callable[[SchemaType], SchemaType]:
        """Register the decorated typed config.

        Args:
            name: of the base in its YAML file's ``defaults``.
            targets: the allowed ``_target_``s; if empty, its default ``_target_``.
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
