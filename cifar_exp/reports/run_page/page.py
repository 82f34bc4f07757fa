"""The page of a run, from what its directory holds."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cifar_exp.config.parse import flatten
from cifar_exp.evaluation.statistics import wilson_interval
from cifar_exp.reports.html import page
from cifar_exp.reports.html.formats import integer, is_missing, memory, number, percent, points, seconds
from cifar_exp.reports.html.table import Column, Table
from cifar_exp.reports.run_page.charts import run_charts
from cifar_exp.reports.run_page.config_tree import as_yaml, config_tree, default_leaves
from cifar_exp.reports.run_page.findings import statements
from cifar_exp.reports.run_page.findings_predictions import confusion_counts
from cifar_exp.reports.run_page.gallery import explained_data, gallery_data, suspects
from cifar_exp.run_dir.lifecycle import run_name
from cifar_exp.run_dir.read import RunDirectory, read_run
from cifar_exp.safe_io.plural import plural

FILE = "report.html"
REFRESH_SECONDS = 30
_MOST_CONFUSIONS = 200


def run_page(path: Path, *, at_work: bool = False) -> str:
    """The page of the run in ``path``, as text.

    Args:
        path: of its directory.
        at_work: whether the run is this process's own.

    Raises:
        RequestError: ``path`` is not a run directory.
    """
    run = read_run(path, at_work=at_work)
    running = run.state == "running"
    names = run.class_names
    defaults = default_leaves()
    title = str(run.config.get("name") or path.absolute().name)
    gallery, explained = gallery_data(run), explained_data(run)
    return page.render(
        "run.html",
        title=f"{title}: {_short_result(run)}",
        charts=run_charts(run),
        tables=_tables(run, names),
        data={"classes": names, "gallery": gallery, "explained": explained, "suspects": suspects(run)},
        scripts=("gallery.js", "gradcam.js", "run.js"),
        styles=("run.css",),
        refresh_seconds=REFRESH_SECONDS if running else None,
        name=title,
        run=run,
        running=running,
        tags=run.config["tags"] if isinstance(run.config.get("tags"), list) else [],
        accuracy=_accuracy(run),
        tiles=_tiles(run),
        progress=_progress(run),
        statements=statements(run),
        tree=config_tree(run.config, defaults),
        environment=_environment(run),
        typed=_typed(run),
        commands=_commands(run),
        has_gallery=gallery is not None,
        has_maps=explained is not None,
        written_at=datetime.now(UTC).isoformat(timespec="seconds") if running else None,
        **_image_counts(run),
    )


def _short_result(run: RunDirectory) -> str:
    accuracy = run.number("test_accuracy")
    return run.state if accuracy is None else percent(accuracy)


def _accuracy(run: RunDirectory) -> dict[str, str] | None:
    """The headline: from the predictions, or else from the last epoch that measured anything."""
    if run.predictions is not None:
        n, right = len(run.predictions), int(run.predictions["correct"].sum())
        low, high = wilson_interval(right, n)
        note = f"95% interval {percent(low)} to {percent(high)} (Wilson), {n:,} test images"
        return {"label": "Test accuracy", "value": percent(right / n), "note": note}
    for column, label in (("test_accuracy", "Test"), ("val_accuracy", "Validation"), ("train_accuracy", "Training")):
        if run.metrics is not None and column in run.metrics and run.metrics[column].notna().any():
            row = run.metrics.dropna(subset=[column]).iloc[-1]
            return {
                "label": f"{label} accuracy",
                "value": percent(row[column]),
                "note": f"after epoch {integer(row['epoch'])}"
                + ("" if column == "test_accuracy" else "; the test images were not evaluated"),
            }
    return None


def _tiles(run: RunDirectory) -> list[tuple[str, str, str]]:
    """Label, value and note of the figures under the headline; what was not measured is left out."""
    environment, metrics = run.environment, run.metrics
    tiles = []
    if run.predictions is not None:
        wrong = int((~run.predictions["correct"]).sum())
        tiles.append(("Misclassified", f"{wrong:,}", f"of {len(run.predictions):,} test images"))
    if (gap := run.number("generalization_gap")) is not None:
        tiles.append(("Gap", points(gap), "training less test accuracy"))
    if (several := run.number("test_accuracy_tta")) is not None:
        tiles.append(("With test-time augmentation", percent(several), "right by several views of each image"))
    if (best := run.number("best_val_accuracy")) is not None:
        note = f"in epoch {integer(run.number('best_epoch'))}"
        if (held_out := run.number("val_images")) and held_out >= 1 and 0 <= best <= 1:
            low, high = wilson_interval(round(best * held_out), int(held_out))
            note += f"; 95% interval {percent(low)} to {percent(high)}"
        tiles.append(("Best validation accuracy", percent(best), note))
    if (total := run.number("total_seconds")) is not None:
        tiles.append(("Time", seconds(total), f"{seconds(run.number('train_seconds'))} of it training"))
    elif metrics is not None and {"train_seconds", "eval_seconds"} <= set(metrics):
        spent = metrics[["train_seconds", "eval_seconds"]].sum().sum()
        tiles.append(("Time", seconds(spent), f"in {plural(len(metrics), 'epoch')}"))
    speed = run.number("images_per_second")
    if speed is None and metrics is not None and "images_per_second" in metrics:
        speed = metrics["images_per_second"].mean()
    if speed is not None and not is_missing(speed):
        tiles.append(("Speed", f"{number(speed) if speed < 10 else integer(speed)} images/s", "in training"))
    if environment.get("device"):
        gpu = environment.get("gpu") or environment.get("cpu") or ""
        tiles.append(("Device", f"{environment['device']}, {environment.get('precision')}", str(gpu)))
    if (parameters := run.number("parameters")) is not None:
        tiles.append(("Parameters", _millions(parameters), f"{integer(parameters)} in all"))
    if (peak := run.number("peak_memory_bytes")) is not None:
        tiles.append(("Peak memory", memory(peak), ""))
    return tiles


def _millions(count: float) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k" if count >= 1e4 else integer(count)


def _progress(run: RunDirectory) -> dict[str, Any] | None:
    """How far a run is that still goes on."""
    done, epochs = run.status.get("epochs_completed"), run.config.get("epochs")
    if run.state != "running" or not isinstance(done, int) or not isinstance(epochs, int) or epochs < 1:
        return None
    left = None
    if run.metrics is not None and {"train_seconds", "eval_seconds"} <= set(run.metrics):
        left = float(run.metrics[["train_seconds", "eval_seconds"]].sum(axis=1).mean()) * (epochs - done)
    return {"done": done, "epochs": epochs, "left": None if is_missing(left) else seconds(left)}


def _tables(run: RunDirectory, names: list[str]) -> dict[str, Table]:
    made = {
        "per_class": _per_class(run, names),
        "confusions": _confusions(run, names),
        "label_issues": _label_issues(run),
        "gradcam": _gradcam(run),
        "faithfulness": _faithfulness(run),
    }
    return {name: table for name, table in made.items() if table is not None}


def _per_class(run: RunDirectory, names: list[str]) -> Table | None:
    if run.per_class is None:
        return None
    table = run.per_class[["class", "images", "correct", "accuracy"]].copy()
    for column in ("predicted", "precision"):
        table[column] = run.per_class[column] if column in run.per_class.columns else np.nan
    table["f1"] = 2 * table["correct"] / (table["images"] + table["predicted"])
    columns = [
        Column("class"),
        Column("images", "integer"),
        Column("right", "integer"),
        Column("recall", "percent", bar=True, key=True, note="right / images: the class's accuracy"),
        Column("predicted", "integer", note="images that were taken for this class"),
        Column("precision", "percent", bar=True, note="right / predicted"),
        Column("F1", "percent", bar=True, note="harmonic mean of recall and precision"),
    ]
    return Table(columns, table.to_numpy(dtype=object).tolist(), sort=(3, False), find=len(names) > 12)


def _confusions(run: RunDirectory, names: list[str]) -> Table | None:
    if run.confusion is None:
        return None
    counts = confusion_counts(run.confusion)
    images = np.maximum(counts.sum(axis=1), 1)
    cells = [(row, column) for row, column in np.argwhere(counts > 0) if row != column]
    cells.sort(key=lambda cell: -counts[cell])
    return Table(
        [
            Column("true class"),
            Column("taken for"),
            Column("images", "integer", bar=True, from_zero=True),
            Column("of its class", "percent", note="share of the true class's images"),
        ],
        [
            [
                {"value": names[row], "href": f"#cell-{row}-{column}"},
                names[column],
                int(counts[row, column]),
                float(counts[row, column] / images[row]),
            ]
            for row, column in cells[:_MOST_CONFUSIONS]
        ],
        sort=(2, True),
        find=len(cells) > 10,
        shown=12,
    )


def _label_issues(run: RunDirectory) -> Table | None:
    if run.label_issues is None:
        return None
    columns = [
        Column("rank", "integer"),
        Column("image", "integer", note="row of predictions.csv, for explain.indices"),
        Column("label"),
        Column("probability of the label", "percent"),
        Column("suggested", key=True),
        Column("probability of the suggestion", "percent"),
        Column("file"),
    ]
    shown = ["rank", "index", "label", "label_probability", "suggested", "suggested_probability", "source"]
    return Table(columns, run.label_issues[shown].to_numpy(dtype=object).tolist(), sort=(0, False), shown=20)


def _gradcam(run: RunDirectory) -> Table | None:
    if run.gradcam is None:
        return None
    columns = [
        Column("image", "integer"),
        *(Column(name) for name in ("label", "prediction", "target", "layer", "map")),
    ]
    rows = [
        [
            *(row[key] for key in ("index", "label", "prediction", "target", "layer")),
            f"{integer(row['map_height'])}x{integer(row['map_width'])}",
        ]
        for row in run.gradcam.to_dict("records")
    ]
    notes = {
        "attended_drop": "with the fifth of the pixels that the map marks hidden",
        "control_drop": "with the places hidden that other shown images' maps mark",
        "deletion_drop": "with the fifth that the map marks in the mean colour",
        "random_drop": "with scattered random pixels in the mean colour: a weak control",
    }
    for name, note in notes.items():
        if name in run.gradcam:
            columns.append(Column(name, "number", note=f"drop in the target's probability {note}"))
            for cells, value in zip(rows, run.gradcam[name].tolist(), strict=True):
                cells.append(value)
    return Table(columns, rows, shown=20)


def _faithfulness(run: RunDirectory) -> Table | None:
    if run.faithfulness is None or run.faithfulness["difference"].isna().all():
        return None
    columns = {
        "layer": Column("layer"),
        "target": Column("target", note="true: of the misclassified images"),
        "verdict": Column("verdict", key=True, note="by the interval alone"),
        "n": Column("images", "integer", note="too few have no verdict"),
        "attended_drop": Column("drop, attended", "number", note="mean drop in the class's probability"),
        "control_drop": Column("drop, control", "number", note="at the places that other images' maps mark"),
        "difference": Column("difference", "number", note="attended less control"),
        "ci_low": Column("from", "number", note="95% paired bootstrap interval of the difference"),
        "ci_high": Column("to", "number", note="95% paired bootstrap interval of the difference"),
        "rank_correlation_reinitialized": Column(
            "rank correlation",
            "number",
            note="with the maps of the network whose last block is re-initialized; near 1: the maps do not depend on "
            "what was learned",
        ),
    }
    rows = run.faithfulness[list(columns)]
    cells = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
    return Table(list(columns.values()), cells, find=False)


def _image_counts(run: RunDirectory) -> dict[str, int]:
    """How many mistakes there are, and how many of them the page shows."""
    if run.predictions is None or run.images is None:
        return {"wrong": 0, "wrong_shown": 0}
    correct = run.predictions["correct"].to_numpy()
    known = run.images.index[(run.images.index >= 0) & (run.images.index < len(correct))]
    return {"wrong": int((~correct).sum()), "wrong_shown": int((~correct[known]).sum())}


def _environment(run: RunDirectory) -> list[tuple[str, str]]:
    leaves = {key: value for key, value in flatten(run.environment).items() if value not in (None, "", [])}
    if isinstance(leaves.get("command_line"), list):
        leaves["command_line"] = shlex.join(map(str, leaves["command_line"]))
    return [(key.removeprefix("packages."), as_yaml(value)) for key, value in leaves.items()]


def _typed(run: RunDirectory) -> str | None:
    """What was typed to start the run, where Hydra saved it."""
    return None if run.overrides is None else shlex.join(["cifar-exp", *run.overrides])


def _commands(run: RunDirectory) -> Mapping[str, str]:
    name = shlex.quote(run_name(run.path))
    if run.state == "completed":
        return {"reproduce": f"cifar-exp reproduce {name}"}
    return {"resume": f"cifar-exp resume {name}"} if run.state == "interrupted" else {}
