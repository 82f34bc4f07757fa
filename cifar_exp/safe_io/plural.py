"""Numbers with their nouns."""


def plural(number: int, noun: str, several: str | None = None) -> str:
    """A number and its noun, in the plural unless the number is 1.

    >>> plural(1, "epoch"), plural(1200, "epoch"), plural(0, "class", "classes")
    ('1 epoch', '1,200 epochs', '0 classes')
    """
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"
