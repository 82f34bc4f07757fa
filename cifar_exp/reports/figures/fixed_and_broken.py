"""Two runs image by image: what the second gets right and the first does not, the reverse, and by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from cifar_exp.reports.figures.style import GRAY, RIGHT, WRONG, bare, save, shorten, show_image, styled

COLUMNS = 8  # images of each kind
_MOST_CLASSES = 20


@dataclass(frozen=True)
class Changed:
    """A test image that one of two networks gets right: (H, W, C) uint8, and what the other took it for."""

    image: NDArray[np.uint8] | None
    label: str
    mistaken_for: str
    confidence: float


@dataclass(frozen=True)
class Change:
    """All that run B does otherwise than run A.

    Attributes:
        name_a: short name of run A.
        name_b: short name of run B.
        fixed: images that B gets right and A does not; at most ``COLUMNS`` are shown.
        broken: the reverse.
        images: test images in all.
        classes: names.
        fixed_by_class: (classes,) counts.
        broken_by_class: (classes,) counts.
        images_by_class: (classes,) counts.
        no_images: why the images cannot be shown; empty where they can.
        verdict: whether the difference means anything.
    """

    name_a: str
    name_b: str
    fixed: Sequence[Changed]
    broken: Sequence[Changed]
    images: int
    classes: Sequence[str]
    fixed_by_class: NDArray[np.int64]
    broken_by_class: NDArray[np.int64]
    images_by_class: NDArray[np.int64]
    no_images: str
    verdict: str


def fixed_and_broken(change: Change, path: Path) -> None:
    """Draw the images, most confidently mistaken first, and the counts of each class."""
    kept = _classes_shown(change)
    fixed, broken = int(change.fixed_by_class.sum()), int(change.broken_by_class.sum())
    with styled():
        galleries = 1.65 * 2 if not change.no_images else 0.9
        classes = 0.26 * len(kept) + 0.9
        figure: Any = Figure(figsize=(10.5, galleries + classes + 1.1), layout="constrained")
        figure.suptitle(
            f"A: {shorten(change.name_a, 90)}\nB: {shorten(change.name_b, 90)}\n"
            f"B fixes {fixed:,} and breaks {broken:,} of {change.images:,} test images: "
            f"{100 * (fixed - broken) / change.images:+.2f} points, {change.verdict}",
            fontsize=10,
        )
        top, bottom = figure.subfigures(2, 1, height_ratios=[galleries, classes])
        if change.no_images:
            text = f"The images are not shown: {change.no_images}"
            top.text(0.5, 0.4, text, ha="center", va="center", color=GRAY, wrap=True)
        else:
            upper, lower = top.subfigures(2, 1)
            _gallery(upper, change.fixed, "A", f"Fixed: B is right, A is not ({_shown(change.fixed, fixed)})", RIGHT)
            _gallery(
                lower, change.broken, "B", f"Broken: A is right, B is not ({_shown(change.broken, broken)})", WRONG
            )
        _by_class(bottom.subplots(), change, kept)
        save(figure, path)


def _shown(images: Sequence[Changed], total: int) -> str:
    return f"{total:,}" if len(images) == total else f"the {len(images)} most confident mistakes of {total:,}"


def _gallery(part: Any, images: Sequence[Changed], mistaken: str, title: str, colour: str) -> None:
    part.suptitle(title, fontsize=9, fontweight="bold", color=colour, ha="left", x=0.01)
    grid = part.subplots(1, COLUMNS)
    for axes in grid:
        bare(axes)
    for axes, one in zip(grid, images, strict=False):
        if one.image is not None:
            show_image(axes, one.image)
        axes.set_title(
            f"is {shorten(one.label, 18)}\n{mistaken}: {shorten(one.mistaken_for, 18)}\n({one.confidence:.0%} sure)",
            fontsize=7.5,
            fontweight="normal",
        )
    if not images:
        grid[0].text(0.5, 0.5, "none", ha="center", va="center", color=GRAY)


def _classes_shown(change: Change) -> NDArray[np.int64]:
    """The classes with the largest net change, in the data set's order where all fit."""
    if len(change.classes) <= _MOST_CLASSES:
        return np.arange(len(change.classes))
    net = change.fixed_by_class - change.broken_by_class
    most = np.argsort(-np.abs(net), kind="stable")[:_MOST_CLASSES]
    return most[np.argsort(-net[most], kind="stable")]


def _by_class(axes: Any, change: Change, kept: NDArray[np.int64]) -> None:
    """Bars of fixed images to the right and of broken ones to the left, with the net difference in words."""
    fixed, broken = change.fixed_by_class[kept], change.broken_by_class[kept]
    places = np.arange(len(kept))
    axes.barh(places, fixed, color=RIGHT, height=0.72, label="fixed")
    axes.barh(places, -broken, color=WRONG, height=0.72, label="broken")
    axes.axvline(0, color="#222222", linewidth=0.8)
    points = 100 * (fixed - broken) / np.maximum(change.images_by_class[kept], 1)
    widest = max(int(fixed.max(initial=0)), int(broken.max(initial=0)), 1)
    for place, value in zip(places, points, strict=True):
        if fixed[place] or broken[place]:
            told = f"{value:+.1f} points" if value else "±0"
            axes.text(fixed[place] + 0.015 * widest, place, told, va="center", fontsize=7.5, color="#222222")
    names = [shorten(change.classes[position], 18) for position in kept]
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(-1.12 * max(int(broken.max(initial=0)), 1), 1.22 * max(int(fixed.max(initial=0)), 1) + 0.1 * widest)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):,.0f}"))
    axes.grid(visible=False, axis="y")
    some = "" if len(kept) == len(change.classes) else f" (the {len(kept)} of {len(change.classes)} that change most)"
    axes.set_title(f"By class{some}: images broken and fixed, and the change of the class's accuracy")
    axes.set_xlabel("test images")
