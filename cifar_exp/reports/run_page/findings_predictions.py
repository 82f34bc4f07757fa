"""Findings about a run's predictions, their confidence and labels, and the Grad-CAM maps."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cifar_exp.evaluation.calibration import calibration_error
from cifar_exp.explain.verdict import HEADLINES, MARKS, UNCLEAR, WRONG_PLACE, finding, sanity, verdict
from cifar_exp.reports.html.formats import integer, number, percent, points_with_unit
from cifar_exp.reports.html.parts import Finding, Source
from cifar_exp.reports.run_page.findings_training import summary_cells
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.read import RunDirectory
from cifar_exp.safe_io.plural import plural

MISCALIBRATED = 0.02  # ECE from which a miscalibration gets a caution
HIGH = 0.9  # confidence

_TITLES = {
    "overconfident": "Overconfident",
    "underconfident": "Underconfident",
    "mixed": "Overconfident in some images, underconfident in others",
}


def classes(run: RunDirectory) -> Iterator[Finding]:
    """The hardest and the easiest class, and the most frequent mistake."""
    if run.per_class is None or run.per_class["accuracy"].notna().sum() < 2:
        return
    table = run.per_class.dropna(subset=["accuracy"])
    worst, best = table.iloc[int(table["accuracy"].argmin())], table.iloc[int(table["accuracy"].argmax())]
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
        text += f" The most frequent mistake: {label} predicted as {prediction}, {count:,} times."
        sources.append(Source("confusion.csv", f"label {label}", prediction, f"{count:,}"))
    yield Finding("plain", "Hardest and easiest class", text, tuple(sources))


def most_confused(run: RunDirectory) -> tuple[str, str, int] | None:
    """The most frequent mistake: (true class, predicted class, images); None without mistakes."""
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
    """The layer to read first: the one with the highest faithfulness, or the deepest one if it was not measured."""
    tested = _tested_layers(run)
    if not tested.empty:
        return str(tested["layer"].iloc[int(tested["difference"].to_numpy(dtype=np.float64).argmax())])
    return None if run.gradcam is None or run.gradcam.empty else str(run.gradcam["layer"].iloc[-1])


def _tested_layers(run: RunDirectory) -> pd.DataFrame:
    """The rows of ``faithfulness.csv`` for the predicted class that were measured; empty if there are none."""
    if run.faithfulness is None:
        return pd.DataFrame(columns=list(tables.FAITHFULNESS_COLUMNS))
    rows = run.faithfulness[run.faithfulness["target"] == "predicted"]
    return rows.dropna(subset=["n", "attended_drop", "control_drop", "difference", "ci_low", "ci_high"])


def explained_layers(run: RunDirectory) -> Iterator[Finding]:
    """Which layers were explained in a network without ``layerN``, or why there are no maps."""
    note = run.status.get("gradcam")
    if isinstance(note, str):
        source = Source("status.json", "gradcam", "", "chosen by a forward pass before training")
        yield Finding("plain", "What Grad-CAM explains", note[:500], (source,))


def attention(run: RunDirectory) -> Iterator[Finding]:
    """Whether the Grad-CAM maps mark what the predictions depend on."""
    layer, tested = headline_layer(run), _tested_layers(run)
    if layer is None or run.gradcam is None:
        return
    if tested.empty:
        text = "The run has no measured faithfulness, so its maps are pictures only."
        if run.faithfulness is None:
            text += " `cifar-exp evaluate` measures it for the run's checkpoint."
        source = Source("gradcam.csv", f"all {len(run.gradcam):,}", "layer", layer)
        yield Finding("plain", "Grad-CAM was not tested", text, (source,))
        return
    verdicts = {str(one["layer"]): verdict(one["ci_low"], one["ci_high"]) for one in tested.to_dict("records")}
    row = tested[tested["layer"] == layer].iloc[0]
    text = finding(layer, row["attended_drop"], row["control_drop"], row["ci_low"], row["ci_high"], int(row["n"]))
    for found in (MARKS, UNCLEAR, WRONG_PLACE):
        if others := [name for name in verdicts if verdicts[name] == found and name != layer]:
            text += f" {', '.join(others)}: {found}."
    kind = {MARKS: "good", UNCLEAR: "note", WRONG_PLACE: "bad"}[verdicts[layer]]
    correlation = row["rank_correlation_reinitialized"]
    if pd.notna(correlation) and (warning := sanity(layer, correlation)):
        text += f" {warning}"
        kind = "bad" if kind == "bad" else "note"
    sources = tuple(
        Source("faithfulness.csv", f"layer {layer}, target predicted", column, f"{row[column]:.4f}")
        for column in ("attended_drop", "control_drop", "difference", "ci_low", "ci_high")
    )
    yield Finding(kind, HEADLINES[verdicts[layer]], text, sources)


def confidence(run: RunDirectory) -> Iterator[Finding]:
    """Whether confidence matches accuracy: the calibration error, its interval and its correction."""
    if run.predictions is None or not run.predictions["confidence"].between(0, 1).all():
        return
    confidence, correct = run.predictions["confidence"], run.predictions["correct"]
    error = calibration_error(confidence.to_numpy(), correct.to_numpy())
    wrong, high = int((~correct).sum()), int((~correct & (confidence > HIGH)).sum())
    text = (
        f"Mean confidence {percent(confidence.mean())}, accuracy {percent(correct.mean())}: "
        f"{points_with_unit(error.excess)}. The expected calibration error (ECE) is {error.ece:.3f}, its 95% interval "
        f"{error.low:.3f} to {error.high:.3f}. A perfectly calibrated network has an ECE of up to "
        f"{error.by_chance:.3f} on {len(correct):,} images."
    )
    if wrong:
        text += f" {high:,} of {wrong:,} mistakes have a confidence above {percent(HIGH, 0)}."
    smoothing = run.setting("label_smoothing")
    if error.verdict == "underconfident" and isinstance(smoothing, float) and smoothing > 0:
        text += f" label_smoothing={smoothing:g} lowers the confidence on purpose."
    temperature, calibrated = run.number("temperature"), run.number("ece_calibrated")
    if temperature is not None and calibrated is not None:
        text += (
            f" Logits divided by the temperature {temperature:.2f}, fitted on the validation split, have an ECE of "
            f"{calibrated:.3f}."
        )
    sources = (
        Source("predictions.csv", f"all {len(confidence):,}", "confidence", f"mean {confidence.mean():.4f}"),
        Source("predictions.csv", "correct is False", "confidence", f"{high:,} above {HIGH}"),
        *summary_cells(run, "ece", "temperature", "ece_calibrated"),
    )
    if error.verdict != "calibrated" and error.ece <= MISCALIBRATED:
        text += f" The difference is larger than chance, but an ECE of up to {MISCALIBRATED:g} counts as a match."
    if error.verdict == "calibrated" or error.ece <= MISCALIBRATED:
        yield Finding("good", "Confidence matches accuracy", text, sources)
    else:
        yield Finding("note", _TITLES[error.verdict], text, sources)


def label_issues(run: RunDirectory) -> Iterator[Finding]:
    """How many test labels are probably wrong, and how much they could change the accuracy."""
    if run.label_issues is None or run.predictions is None:
        return
    found, n = min(len(run.label_issues), len(run.predictions)), len(run.predictions)
    accuracy = float(run.predictions["correct"].mean())
    text = (
        f"{plural(found, 'test label')} of {n:,} may be wrong, by confident learning. If all of them are, and the "
        f"predictions right, the accuracy is {percent(accuracy + found / n)} rather than {percent(accuracy)}. "
        "The list also contains mistakes of the network: check the images."
    )
    yield Finding("plain", "Labels to check", text, (Source("label_issues.csv", "the last one", "rank", f"{found:,}"),))
