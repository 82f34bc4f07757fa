"""The test images that the baseline and another run predict differently: which they are, and their figure."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.naming import one_line
from cifar_exp.compare.pairs import Pair, predictions_of
from cifar_exp.reports.figures.style import DARK, GRAY, RIGHT, WRONG, new_figure, shorten, show_images
from cifar_exp.run_dir.kept_images import FILE, read_images

_COLUMNS = 8  # images of each kind in the figure
_MOST_CLASSES = 20


@dataclass(frozen=True)
class Mistake:
    """A test image that exactly one of two networks classifies correctly, with the other's wrong prediction."""

    image: NDArray[np.uint8] | None  # (H, W, C); None if neither run kept it
    label: str
    prediction: str
    confidence: float


@dataclass(frozen=True)
class Change:
    """The differences between the predictions of run B and those of run A."""

    names: tuple[str, str]  # of run A and run B
    fixed: Sequence[Mistake]  # images that only B predicts correctly, with A's mistake
    broken: Sequence[Mistake]  # images that only A predicts correctly, with B's mistake
    by_class: pd.DataFrame  # ``fixed``, ``broken`` and ``images``: counts for each class, named by the index
    why_no_images: str  # why the images cannot be shown; empty if they can
    verdict: str  # whether the difference is significant

    @property
    def totals(self) -> dict[str, int]:
        """Counts over all classes, by column of ``by_class``."""
        return {str(name): int(total) for name, total in self.by_class.sum().items()}


def changed_images(comparison: Comparison, pairs: Sequence[Pair], most: int) -> Change | None:
    """Compare the baseline (A) with the best run of another group (B), or of its own group if there is no other.

    Returns:
        At most ``most`` fixed and ``most`` broken images, first those with pixels; None if no pair could be tested.
    """
    runs, baseline = comparison.runs, comparison.baseline
    tested = [pair for pair in pairs if pair.counts is not None]
    if baseline is None or not tested:
        return None
    pair = next((p for p in tested if runs["group"].iloc[p.position] != runs["group"].iloc[baseline]), tested[0])
    a, b = predictions_of(runs, baseline), predictions_of(runs, pair.position)
    fixed, broken = ~a["correct"] & b["correct"], a["correct"] & ~b["correct"]
    counts = pd.DataFrame({"fixed": fixed, "broken": broken, "images": True}).groupby(a["label"]).sum().astype(int)
    places = [baseline, pair.position]
    # The pages of both runs show the most confident mistakes, so their pixels are beside the pages.
    kept: dict[int, NDArray[np.uint8]] = {}
    for path in runs["path"].iloc[places]:
        with suppress(OSError, ValueError):
            images = read_images(Path(path) / FILE)
            kept |= dict(zip(images.index.tolist(), images.image, strict=True))

    def mistakes(predictions: pd.DataFrame) -> list[Mistake]:
        ranked = predictions.assign(missing=~predictions["index"].isin(list(kept)))
        first = ranked.sort_values(["missing", "confidence"], ascending=[True, False]).head(most)
        pixels = [kept.get(index) for index in first["index"]]
        labels, predicted = (first[column].map(one_line) for column in ("label", "prediction"))
        return list(map(Mistake, pixels, labels, predicted, first["confidence"].astype(float)))

    why_no_images = "" if kept else f"neither run has a readable {FILE}, which report=true writes"
    names = runs["name"].iloc[baseline], runs["name"].iloc[pair.position]
    return Change(names, mistakes(a[fixed]), mistakes(b[broken]), counts, why_no_images, pair.verdict)


def fixed_and_broken(change: Change, path: Path) -> None:
    """Draw the first images of each kind, and the counts of each class."""
    shown = _most_changed(change.by_class)
    fixed, broken, images = (change.totals[name] for name in ("fixed", "broken", "images"))
    galleries = 0.9 if change.why_no_images else 1.65 * 2
    bars = 0.26 * len(shown) + 0.9
    with new_figure(path, 10.5, galleries + bars + 1.1) as figure:
        figure.suptitle(
            f"A: {shorten(change.names[0], 90)}\nB: {shorten(change.names[1], 90)}\n"
            f"B fixes {fixed:,} and breaks {broken:,} of {images:,} test images: "
            f"{100 * (fixed - broken) / images:+.2f} points, {change.verdict}",
            fontsize=10,
        )
        top, bottom = figure.subfigures(2, 1, height_ratios=[galleries, bars])
        if change.why_no_images:
            text = f"The images are not shown: {change.why_no_images}"
            top.text(0.5, 0.4, text, ha="center", va="center", color=GRAY, wrap=True)
        else:
            upper, lower = top.subfigures(2, 1)
            _gallery(upper, change.fixed, "A", "Fixed: B is right, A is not", fixed, RIGHT)
            _gallery(lower, change.broken, "B", "Broken: A is right, B is not", broken, WRONG)
        _bars(bottom.subplots(), shown, len(change.by_class))


def _gallery(part: Any, images: Sequence[Mistake], run: str, title: str, total: int, colour: str) -> None:
    shown = images[:_COLUMNS]
    count = f"{total:,}" if len(shown) == total else f"{len(shown)} of {total:,}"
    part.suptitle(f"{title} ({count})", fontsize=9, fontweight="bold", color=colour, ha="left", x=0.01)
    grid = part.subplots(1, _COLUMNS)
    captions = [
        f"{shorten(one.label, 18)}\n{run}: {shorten(one.prediction, 18)}\n({one.confidence:.0%})" for one in shown
    ]
    show_images(grid, [one.image for one in shown], captions, 7.5)
    if not images:
        grid[0].text(0.5, 0.5, "none", ha="center", va="center", color=GRAY)


def _most_changed(by_class: pd.DataFrame) -> pd.DataFrame:
    """All classes if they are few, otherwise those with the largest net change, the most improved first."""
    if len(by_class) <= _MOST_CLASSES:
        return by_class
    net = by_class["fixed"] - by_class["broken"]
    most = net.abs().sort_values(ascending=False, kind="stable").index[:_MOST_CLASSES]
    return by_class.loc[net[most].sort_values(ascending=False, kind="stable").index]


def _bars(axes: Any, shown: pd.DataFrame, classes: int) -> None:
    """Bars of fixed images to the right and of broken ones to the left, with the change of the class's accuracy."""
    fixed, broken, positions = shown["fixed"].to_numpy(), shown["broken"].to_numpy(), np.arange(len(shown))
    axes.barh(positions, fixed, color=RIGHT, height=0.72)
    axes.barh(positions, -broken, color=WRONG, height=0.72)
    axes.axvline(0, color=DARK, linewidth=0.8)
    points = 100 * (fixed - broken) / np.maximum(shown["images"].to_numpy(), 1)
    right, left = max(fixed.max(initial=0), 1), max(broken.max(initial=0), 1)
    for row in np.flatnonzero(fixed + broken):
        text = f"{points[row]:+.1f} points" if points[row] else "±0"
        axes.text(fixed[row] + 0.015 * max(left, right), row, text, va="center", fontsize=7.5, color=DARK)
    axes.set_yticks(positions, [shorten(name, 18) for name in shown.index], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(-1.12 * left, 1.22 * right + 0.1 * max(left, right))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):,.0f}"))
    axes.grid(visible=False, axis="y")
    some = "" if len(shown) == classes else f" (the {len(shown)} of {classes} with the largest change)"
    axes.set_title(f"By class{some}: images broken and fixed, and the change of the class's accuracy")
    axes.set_xlabel("test images")
