"""The tables of a run's page."""

from typing import Any

import numpy as np
import pandas as pd

from cifar_exp.reports.html.parts import Column, Table
from cifar_exp.reports.run_page.findings_predictions import confusion_counts
from cifar_exp.run_dir.read import RunDirectory

_MOST_CONFUSIONS = 200
_PER_CLASS = {
    "class": Column("class"),
    "images": Column("images", "integer"),
    "correct": Column("right", "integer"),
    "accuracy": Column("recall", "percent", bar=True, key=True, note="right / images: the class's accuracy"),
    "predicted": Column("predicted", "integer", note="images predicted as this class"),
    "precision": Column("precision", "percent", bar=True, note="right / predicted"),
    "f1": Column("F1", "percent", bar=True, note="harmonic mean of recall and precision"),
}
_LABEL_ISSUES = {
    "rank": Column("rank", "integer"),
    "index": Column("image", "integer", note="row of predictions.csv, for explain.indices"),
    "label": Column("label"),
    "label_probability": Column("probability of the label", "percent"),
    "suggested": Column("suggested", key=True),
    "suggested_probability": Column("probability of the suggestion", "percent"),
    "source": Column("file"),
}
_FAITHFULNESS = {  # the format of losses: four decimals
    "layer": Column("layer"),
    "target": Column("target", note="true: of the misclassified images"),
    "verdict": Column("verdict", key=True, note="by the interval alone"),
    "difference": Column("difference", "loss", note="drop, attended, less drop, control"),
    "ci_low": Column("from", "loss", note="95% paired bootstrap interval of the difference"),
    "ci_high": Column("to", "loss", note="95% paired bootstrap interval of the difference"),
    "attended_drop": Column("drop, attended", "loss", note="mean drop in the class's probability"),
    "control_drop": Column("drop, control", "loss", note="at the places that other images' maps mark"),
    "n": Column("images", "integer", note="too few have no verdict"),
    "rank_correlation_reinitialized": Column(
        "rank correlation",
        "loss",
        note="with the maps of the network whose last block is re-initialized; near 1: the maps do not depend on "
        "what was learned",
    ),
}


def run_tables(run: RunDirectory) -> dict[str, Table]:
    """The tables that the run has records for, by name."""
    names, made = run.class_names, {}
    if run.per_class is not None:
        shown = run.per_class.reindex(columns=list(_PER_CLASS))
        shown["f1"] = 2 * shown["correct"] / (shown["images"] + shown["predicted"])
        made["per_class"] = _table(shown, _PER_CLASS, sort=(3, False), find=len(names) > 12)
    if run.confusion is not None:
        made["confusions"] = _confusions(confusion_counts(run.confusion), names)
    if run.label_issues is not None:
        made["label_issues"] = _table(run.label_issues, _LABEL_ISSUES, sort=(0, False), shown=20)
    if run.faithfulness is not None and run.faithfulness["difference"].notna().any():
        made["faithfulness"] = _table(run.faithfulness, _FAITHFULNESS, find=False)
    return made


def _table(records: pd.DataFrame, columns: dict[str, Column], **options: Any) -> Table:
    return Table(list(columns.values()), records[list(columns)].astype(object).to_numpy().tolist(), **options)


def _confusions(counts: np.ndarray[Any, np.dtype[np.int64]], names: list[str]) -> Table:
    """The pairs of classes by how often the network confused them."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = [(int(row), int(column)) for row, column in np.argwhere(counts > 0) if row != column]
    cells.sort(key=lambda cell: -counts[cell])
    rows = [
        [
            {"value": names[row], "href": f"#cell-{row}-{column}"},
            names[column],
            int(counts[row, column]),
            float(shares[row, column]),
        ]
        for row, column in cells[:_MOST_CONFUSIONS]
    ]
    columns = [
        Column("true class"),
        Column("predicted class"),
        Column("images", "integer", bar=True, from_zero=True),
        Column("of its class", "percent", note="fraction of the true class's images"),
    ]
    return Table(columns, rows, sort=(2, True), find=len(cells) > 10, shown=12)
