"""The baseline against another run, image by image: what the other gets right and the baseline does not, and back."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cifar_exp.compare.images import load_test_images
from cifar_exp.compare.pairs import Pair, predictions_of
from cifar_exp.compare.render import settings_in_words
from cifar_exp.compare.tables import Comparison
from cifar_exp.reports.figures.fixed_and_broken import Change, Changed


def changed_images(comparison: Comparison, pairs: Sequence[Pair], most: int) -> Change | None:
    """The baseline as A, and as B the best run that differs from it by more than the seed.

    Args:
        comparison: of the runs.
        pairs: the baseline against the others, best first.
        most: how many images of each kind.

    Returns:
        None where no pair could be tested.
    """
    runs, baseline = comparison.runs, comparison.baseline
    tested = [pair for pair in pairs if pair.counts is not None]
    if baseline is None or not tested:
        return None
    pair = next((p for p in tested if runs["group"].iloc[p.position] != runs["group"].iloc[baseline]), tested[0])
    a, b = predictions_of(runs, baseline), predictions_of(runs, pair.position)
    fixed, broken = ~a["correct"] & b["correct"], a["correct"] & ~b["correct"]
    classes = sorted(set(a["label"]))
    codes = np.searchsorted(classes, a["label"])
    by_class = [np.bincount(codes[which], minlength=len(classes)) for which in (fixed, broken, slice(None))]
    row = runs.iloc[pair.position]
    test, reason = load_test_images(Path(row["path"]), row.get("data_fingerprint"), b)

    def worst(which: pd.Series, mistaken: pd.DataFrame) -> list[Changed]:
        first = mistaken[which].sort_values("confidence", ascending=False, kind="stable").head(most)
        return [
            Changed(None if test is None else test.images[at], label, prediction, float(confidence))
            for at, label, prediction, confidence in zip(
                first.index, first["label"], first["prediction"], first["confidence"], strict=True
            )
        ]

    both = runs.iloc[[baseline, pair.position]]
    columns = [column for column in comparison.differing if len(both[column].unique()) > 1]
    names = [
        f"{one['label']} ({words})" if (words := settings_in_words(one, columns)) else str(one["label"])
        for _, one in both.iterrows()
    ]
    return Change(
        name_a=names[0],
        name_b=names[1],
        fixed=worst(fixed, a),
        broken=worst(broken, b),
        images=len(a),
        classes=classes,
        fixed_by_class=by_class[0],
        broken_by_class=by_class[1],
        images_by_class=by_class[2],
        no_images=reason,
        verdict=pair.verdict,
    )
