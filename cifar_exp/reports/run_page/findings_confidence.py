"""Findings about a run's confidence, and about test labels that are probably wrong."""

from collections.abc import Iterator

from cifar_exp.evaluation.calibration import calibration_error
from cifar_exp.reports.html.findings import Finding, Source
from cifar_exp.reports.html.formats import percent, points_with_unit
from cifar_exp.reports.run_page.cells import summary_cells
from cifar_exp.run_dir.read import RunDirectory
from cifar_exp.safe_io.plural import plural

MISCALIBRATED = 0.02  # ECE from which a miscalibration gets a caution
HIGH = 0.9  # confidence

_TITLES = {
    "overconfident": "Overconfident",
    "underconfident": "Underconfident",
    "mixed": "Overconfident in some images, underconfident in others",
}


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
