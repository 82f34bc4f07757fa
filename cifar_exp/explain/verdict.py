"""The verdict on a layer's maps by their measured faithfulness, with one wording for log, figure and page."""

MARKS = "marks what the prediction depends on"
UNCLEAR = "no evidence that it does"
WRONG_PLACE = "marks the wrong place"
HEADLINES = {
    MARKS: "Grad-CAM marks what the prediction depends on",
    UNCLEAR: "No evidence that Grad-CAM marks what the prediction depends on",
    WRONG_PLACE: "Grad-CAM marks the wrong place",
}

INSENSITIVE = 0.9  # mean rank correlation from which on maps count as independent of what the last block learned


def verdict(low: float, high: float) -> str:
    """Return the verdict on a mean difference, attended less control, by its 95% interval alone.

    The interval is rounded to three decimals, as it is shown. A network that has learned nothing changes its
    probabilities by less.

    >>> verdict(0.01, 0.2), verdict(-0.1, 0.1), verdict(-0.2, -0.1)
    ('marks what the prediction depends on', 'no evidence that it does', 'marks the wrong place')
    >>> verdict(0.0001, 0.0004)
    'no evidence that it does'
    """
    low, high = round(low, 3), round(high, 3)
    return MARKS if low > 0 else WRONG_PLACE if high < 0 else UNCLEAR


def decimal(value: float, places: int = 2) -> str:
    """Format a drop in probability, never a negative zero.

    >>> decimal(0.716), decimal(-0.001), decimal(-0.25, 3)
    ('0.72', '0.00', '-0.250')
    """
    return f"{round(value, places) + 0.0:.{places}f}"


def finding(layer: str, attended: float, control: float, low: float, high: float, n: int) -> str:
    """The numbers behind a verdict on a layer's maps for the predicted class, as a sentence."""
    return (
        f"Hiding the fifth of the pixels that {layer}'s maps mark lowers the predicted class's probability by "
        f"{decimal(attended)}; hiding the places that other images' maps mark lowers it by {decimal(control)}. "
        f"Difference {decimal(attended - control, 3)}, 95% interval {decimal(low, 3)} to {decimal(high, 3)}, "
        f"{n:,} test images."
    )


def sanity(layer: str, correlation: float) -> str | None:
    """A sentence if a layer's maps hardly change when the last block loses what it learned; otherwise None."""
    if correlation < INSENSITIVE:
        return None
    return (
        f"The maps of {layer} hardly change when the network's last block is re-initialized "
        f"(rank correlation {correlation:.2f}): they do not depend on what that block learned."
    )
