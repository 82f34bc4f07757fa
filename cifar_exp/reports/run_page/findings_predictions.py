"""What a run's records say about its predictions, and about the maps that explain them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cifar_exp.evaluation.statistics import wilson_interval
from cifar_exp.reports.html.formats import integer, number, percent
from cifar_exp.reports.run_page.sources import Source, Statement, summary_cells
from cifar_exp.run_dir.read import RunDirectory


def accuracy(run: RunDirectory) -> Iterator[Statement]:
    """What the accuracy is worth, by the number of test images."""
    if run.predictions is None:
        return
    n, right = len(run.predictions), int(run.predictions["correct"].sum())
    low, high = wilson_interval(right, n)
    text = (
        f"{right:,} of {n:,} test images are right: {percent(right / n)}. Had other test images been drawn, anything "
        f"from {percent(low)} to {percent(high)} would fit (Wilson's 95% interval). It does not cover other seeds: "
        "for those, repeat the run with seed=1,2,... and compare."
    )
    sources = (
        Source("predictions.csv", f"all {n:,}", "correct", f"{right:,} True"),
        *summary_cells(run, "test_accuracy"),
    )
    yield Statement("plain", "How sure the accuracy is", text, sources)


def classes(run: RunDirectory) -> Iterator[Statement]:
    """The hardest and the easiest class, and the most frequent mistake."""
    if run.per_class is None or run.per_class["accuracy"].notna().sum() < 2:
        return
    table = run.per_class.dropna(subset=["accuracy"])
    worst, best = (table.iloc[int(table["accuracy"].argmin())], table.iloc[int(table["accuracy"].argmax())])
    if worst["accuracy"] == best["accuracy"]:
        return
    text = (
        f"Hardest: {worst['class']}, right in {percent(worst['accuracy'])} of its {integer(worst['images'])} images. "
        f"Easiest: {best['class']}, right in {percent(best['accuracy'])} of its {integer(best['images'])}."
    )
    sources = [
        Source("per_class.csv", f"class {one['class']}", "accuracy", number(one["accuracy"])) for one in (worst, best)
    ]
    if (pair := most_confused(run)) is not None:
        label, prediction, count = pair
        text += f" The most frequent mistake: {label} taken for {prediction}, {count:,} times."
        sources.append(Source("confusion.csv", f"label {label}", prediction, f"{count:,}"))
    yield Statement("plain", "Hardest and easiest class", text, tuple(sources))


def most_confused(run: RunDirectory) -> tuple[str, str, int] | None:
    """The pair of classes that are mistaken most often: (true class, predicted class, images)."""
    if run.confusion is None:
        return None
    counts = confusion_counts(run.confusion).astype(np.float64)
    np.fill_diagonal(counts, 0)
    row, column = np.unravel_index(int(counts.argmax()), counts.shape)
    names = run.class_names
    return None if counts[row, column] == 0 else (names[row], names[column], int(counts[row, column]))


def confusion_counts(confusion: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(classes, classes) counts of ``confusion.csv``; rows are true classes."""
    return confusion.iloc[:, 1:].to_numpy().astype(np.int64)


def headline_layer(run: RunDirectory) -> str | None:
    """The layer to read first: the deepest one whose map is large enough to say where."""
    if run.gradcam is None:
        return None
    minimum = run.setting("explain.minimum_map")
    layers = run.gradcam.drop_duplicates("layer")
    if isinstance(minimum, int):
        # Compared by Python: to NumPy, a whole number of hundreds of digits is an error.
        large = layers[[side >= minimum for side in layers[["map_height", "map_width"]].min(axis=1).tolist()]]
        layers = layers if large.empty else large
    return str(layers["layer"].iloc[-1])


def explained_layers(run: RunDirectory) -> Iterator[Statement]:
    """Which layer was explained where the network has no ``layerN``, or why there are no maps."""
    note = run.status.get("gradcam")
    if isinstance(note, str):
        source = Source("status.json", "gradcam", "", "chosen by a forward pass before training")
        yield Statement("plain", "What Grad-CAM explains", note[:500], (source,))


def attention(run: RunDirectory) -> Iterator[Statement]:
    """Whether the Grad-CAM maps point at what the predictions rest on."""
    layer = headline_layer(run)
    if run.gradcam is None or layer is None:
        return
    predicted = run.gradcam[run.gradcam["target"] == "predicted"].dropna(subset=["deletion_drop", "random_drop"])
    rows = predicted[predicted["layer"] == layer]
    if rows.empty:
        return
    attended, random = float(rows["deletion_drop"].mean()), float(rows["random_drop"].mean())
    more = int((rows["deletion_drop"] > rows["random_drop"]).sum())
    text = (
        f"Hiding the fifth of the pixels that {layer}'s map points at lowers the predicted class's probability by "
        f"{attended:.2f} on average, hiding random ones by {random:.2f}; in {more} of {len(rows)} images the map's "
        "matter more."
    )
    mean = predicted.groupby("layer", sort=False)[["deletion_drop", "random_drop"]].mean()
    idle = [str(name) for name in mean.index[mean["deletion_drop"] <= mean["random_drop"]] if name != layer]
    where = f"layer {layer}, target predicted"
    sources = tuple(
        Source("gradcam.csv", where, column, f"mean {value:.4f}")
        for column, value in (("deletion_drop", attended), ("random_drop", random))
    )
    if attended <= random:
        text += " The map does not show what the prediction rests on: do not explain the network by it."
        yield Statement("bad", "Attention that does not matter to the prediction", text, sources)
    else:
        text += f" Not so in {', '.join(idle)}: do not read those." if idle else ""
        yield Statement("good", "The attention matters to the prediction", text, sources)
