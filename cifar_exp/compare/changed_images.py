"""The test images that the baseline and another run predict differently."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.naming import one_line
from cifar_exp.compare.pairs import Pair, predictions_of
from cifar_exp.reports.figures.fixed_and_broken import Change, Mistake
from cifar_exp.run_dir.kept_images import FILE, read_images


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
