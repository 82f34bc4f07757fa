"""What numbers say, in a sentence or two, with the cells that the numbers come from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A file, or a cell of it: row and column as a person finds them, and the value. Empty texts are not shown."""

    file: str
    row: str = ""
    column: str = ""
    value: str = ""


@dataclass(frozen=True)
class Finding:
    """A statement on a page."""

    kind: str  # ``good``, ``bad``, ``note`` (a caution) or ``plain``
    title: str  # the point in a few words
    text: str  # the point with its numbers
    sources: tuple[Source, ...]  # at least one
