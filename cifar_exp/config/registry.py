"""The options of a config group: what a node's ``_target_`` may be, and which typed config belongs to it."""

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
        shared: the keys that every option has, an option of the user's own included.
        schemas: typed config by the name that a YAML file starts from (``defaults: [base_x, _self_]``).
        targets: typed config by ``_target_``; None for a callable without one, whose node stays a mapping.
    """

    name: str
    shared: type[Schema]
    schemas: dict[str, type[Schema]] = field(default_factory=dict)
    targets: dict[str, type[Schema] | None] = field(default_factory=dict)

    def option(self, name: str, *targets: str) -> Callable[[SchemaType], SchemaType]:
        """Enter the decorated typed config.

        Args:
            name: of the base that its YAML file starts from.
            targets: what it may call; without any, its default ``_target_``.
        """

        def enter(schema: SchemaType) -> SchemaType:
            self.schemas[name] = schema
            own: Any = schema
            for target in targets or (own._target_,):
                self.targets[target] = schema
            return schema

        return enter

    def allow(self, targets: Iterable[str]) -> None:
        """Let nodes call these, without a typed config."""
        self.targets.update(dict.fromkeys(targets))
