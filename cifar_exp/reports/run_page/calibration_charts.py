"""The reliability diagram and the histogram of confidences, as charts of the run page."""

from itertools import pairwise

import numpy as np

from cifar_exp.reports.html.charts import Chart
from cifar_exp.reports.html.formats import integer, percent
from cifar_exp.run_dir.read import RunDirectory

_BINS = 20  # of the histogram
_COLUMNS = ["mean_confidence", "accuracy", "accuracy_low", "accuracy_high", "images"]


def reliability(run: RunDirectory) -> Chart | None:
    """Accuracy by confidence for the groups of ``calibration.csv``, with a 95% interval each."""
    rows = None if run.calibration is None else run.calibration[_COLUMNS].dropna()
    if rows is None or rows.empty:
        return None
    points = rows.to_numpy(dtype=np.float64)
    start = np.floor(10 * np.clip(points[:, :3].min() - 0.03, 0, 0.95)) / 10
    first, last = points[0], points[-1]
    description = (
        f"Accuracy by confidence in {len(points)} groups of equal size: from {percent(first[1])} right at "
        f"{percent(first[0])} mean confidence to {percent(last[1])} right at {percent(last[0])}."
    )
    return Chart("reliability", {"points": points, "start": start}, description, height=340)


def confidences(run: RunDirectory) -> Chart | None:
    """The distribution of confidence among right and among wrong predictions."""
    if run.predictions is None or not run.predictions["confidence"].between(0, 1).all():
        return None
    confidence, correct = run.predictions["confidence"], run.predictions["correct"]
    edges = np.linspace(0, 1, _BINS + 1)
    first = min(int(confidence.min() * _BINS), _BINS - 1)
    bars = []
    for inside, name, colour in ((correct, "right", "right"), (~correct, "wrong", "wrong")):
        counts = np.histogram(confidence[inside], bins=edges)[0]
        values = counts[first:] / max(int(counts.sum()), 1)
        bars.append({"name": f"{name} ({integer(counts.sum())})", "values": values, "colour": colour})
    categories = [f"{100 * low:.0f}-{100 * high:.0f}%" for low, high in pairwise(edges)][first:]
    data = {"bars": bars, "categories": categories, "x_name": "confidence", "y_name": "", "format": "percent"}
    description = (
        f"Confidences: mean {percent(confidence[correct].mean())} of the {integer(correct.sum())} right predictions, "
        f"{percent(confidence[~correct].mean())} of the {integer((~correct).sum())} wrong ones."
    )
    return Chart("bars", data, description)
