"""Numbers with their nouns and units."""


def plural(number: int, noun: str) -> str:
    """A number and its noun, in the plural unless the number is 1.

    >>> plural(1, "epoch"), plural(1200, "epoch")
    ('1 epoch', '1,200 epochs')
    """
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def duration(seconds: float) -> str:
    """A duration in one unit, to three digits.

    >>> [duration(seconds) for seconds in (0.25, 71.34, 3725, 7e5)]
    ['0.25 s', '71.3 s', '62.1 min', '8.1 d']
    """
    units = (("d", 86400, 48 * 3600), ("h", 3600, 5400), ("min", 60, 90), ("s", 1, 0))
    unit, length, _ = next(one for one in units if seconds >= one[2])
    return f"{seconds / length:.3g} {unit}"
