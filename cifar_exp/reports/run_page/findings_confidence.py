"""What a run's records say about its confidence, and about test labels that are probably wrong."""

from collections.abc import Iterator

from cifar_exp.evaluation.calibration import CalibrationError, calibration_error
from cifar_exp.reports.html.formats import percent, points
from cifar_exp.reports.run_page.sources import Source, Statement, summary_cells
from cifar_exp.run_dir.read import RunDirectory
from cifar_exp.safe_io.plural import plural

# From where on a number is worth a word. They decide on the wording only; the numbers stand beside them.
MISCALIBRATED = 0.02  # ECE
SURE = 0.9  # confidence

_TITLES = {
    "overconfident": "Overconfident",
    "underconfident": "Underconfident",
    "mixed": "Overconfident in some images, underconfident in others",
}


def confidence(run: RunDirectory) -> Iterator[Statement]:
    """Whether confidence matches accuracy: the calibration error, its interval and what corrects it."""
    if run.predictions is None or not run.predictions["confidence"].between(0, 1).all():
        return
    confidence, correct = run.predictions["confidence"], run.predictions["correct"]
    error = calibration_error(confidence.to_numpy(), correct.to_numpy())
    wrong, sure = int((~correct).sum()), int((~correct & (confidence > SURE)).sum())
    text = (
        f"Mean confidence {percent(confidence.mean())}, accuracy {percent(correct.mean())}: {points(error.excess)}. "
        f"{_error_in_words(error, len(correct))}"
    )
    if wrong:
        text += f" {sure:,} of {wrong:,} mistakes were made with a confidence above {percent(SURE, 0)}."
    text += _remedies(run, error)
    sources = (
        Source("predictions.csv", f"all {len(confidence):,}", "confidence", f"mean {confidence.mean():.4f}"),
        Source("predictions.csv", "correct is False", "confidence", f"{sure:,} above {SURE}"),
        *summary_cells(run, "ece", "temperature", "ece_calibrated"),
    )
    if error.verdict == "calibrated" or error.ece <= MISCALIBRATED:
        yield Statement("good", "Confidence matches accuracy", text, sources)
    else:
        yield Statement("note", _TITLES[error.verdict], text, sources)


def _error_in_words(error: CalibrationError, images: int) -> str:
    return (
        f"The expected calibration error (ECE) is {error.ece:.3f}, its 95% interval {error.low:.3f} to "
        f"{error.high:.3f}. "
        f"A perfectly calibrated network shows up to {error.by_chance:.3f} on {images:,} images."
    )


def _remedies(run: RunDirectory, error: CalibrationError) -> str:
    text = ""
    smoothing = run.setting("label_smoothing")
    if error.verdict == "underconfident" and isinstance(smoothing, float) and smoothing > 0:
        text += f" label_smoothing={smoothing:g} lowers the confidence on purpose."
    temperature, after = run.number("temperature"), run.number("ece_calibrated")
    if temperature is not None and after is not None:
        text += (
            f" Logits divided by the temperature {temperature:.2f}, fitted on the validation split, have an ECE of "
            f"{after:.3f}."
        )
    return text


def label_issues(run: RunDirectory) -> Iterator[Statement]:
    """How many test labels are probably wrong, and how much of the accuracy that leaves in doubt."""
    if run.label_issues is None or run.predictions is None:
        return
    found, n = min(len(run.label_issues), len(run.predictions)), len(run.predictions)
    accuracy = float(run.predictions["correct"].mean())
    text = (
        f"{plural(found, 'test label')} of {n:,} may be wrong, by confident learning. If all of them are, and the "
        f"predictions right, the accuracy is {percent(accuracy + found / n)} rather than {percent(accuracy)}. "
        "Mistakes of the network are among them, too: look at the images."
    )
    yield Statement(
        "plain", "Labels worth a second look", text, (Source("label_issues.csv", "the last one", "rank", f"{found:,}"),)
    )
