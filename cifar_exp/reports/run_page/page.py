"""The page of a run, made from its directory."""

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cifar_exp.config.parse import as_yaml, flatten
from cifar_exp.reports.html import page
from cifar_exp.reports.html.formats import integer, is_missing, memory, number, percent, points_with_unit, seconds
from cifar_exp.reports.run_page import REFRESH_SECONDS
from cifar_exp.reports.run_page.cells import wilson_in_words
from cifar_exp.reports.run_page.charts import run_charts
from cifar_exp.reports.run_page.config_tree import config_tree, default_leaves
from cifar_exp.reports.run_page.findings import findings
from cifar_exp.reports.run_page.gallery import explained_data, gallery_data, suspects
from cifar_exp.reports.run_page.tables import run_tables
from cifar_exp.run_dir.lifecycle import run_name
from cifar_exp.run_dir.read import RunDirectory, read_run
from cifar_exp.safe_io.plural import plural


def run_page(path: Path, *, at_work: bool = False) -> str:
    """The page of the run in ``path``, as text; ``at_work`` if the run is this process's own.

    Raises:
        RequestError: ``path`` is not a run directory.
    """
    run = read_run(path, at_work=at_work)
    running = run.state == "running"
    accuracy = run.number("test_accuracy")
    title = str(run.config.get("name") or path.absolute().name)
    gallery, explained = gallery_data(run), explained_data(run)
    return page.render(
        "run",
        title=f"{title}: {run.state if accuracy is None else percent(accuracy)}",
        charts=run_charts(run),
        tables=run_tables(run),
        data={"classes": run.class_names, "gallery": gallery, "explained": explained, "suspects": suspects(run)},
        scripts=("gallery.js", "gradcam.js", "run.js"),
        refresh_seconds=REFRESH_SECONDS if running else None,
        name=title,
        run=run,
        running=running,
        tags=run.config["tags"] if isinstance(run.config.get("tags"), list) else [],
        accuracy=_accuracy(run),
        tiles=_tiles(run),
        progress=_progress(run),
        findings=findings(run),
        tree=config_tree(run.config, default_leaves()),
        environment=_environment(run),
        started_by=None if run.overrides is None else shlex.join(["cifar-exp", *run.overrides]),
        quoted_name=shlex.quote(run_name(path)),
        has_gallery=gallery is not None,
        has_maps=explained is not None,
        written_at=datetime.now(UTC).isoformat(timespec="seconds") if running else None,
        **_image_counts(run),
    )


def _accuracy(run: RunDirectory) -> dict[str, str] | None:
    """The headline: from the predictions, otherwise from the last epoch with an accuracy."""
    if run.predictions is not None:
        n, right = len(run.predictions), int(run.predictions["correct"].sum())
        note = f"{wilson_in_words(right, n)} (Wilson), {n:,} test images"
        return {"label": "Test accuracy", "value": percent(right / n), "note": note}
    for column, label in (("test_accuracy", "Test"), ("val_accuracy", "Validation"), ("train_accuracy", "Training")):
        if run.metrics is not None and column in run.metrics and run.metrics[column].notna().any():
            row = run.metrics.dropna(subset=[column]).iloc[-1]
            note = "" if column == "test_accuracy" else "; the test images were not evaluated"
            note = f"after epoch {integer(row['epoch'])}{note}"
            return {"label": f"{label} accuracy", "value": percent(row[column]), "note": note}
    return None


def _tiles(run: RunDirectory) -> list[tuple[str, str, str]]:
    """Label, value and note of the main numbers; without those that were not measured."""
    environment, metrics, tiles = run.environment, run.metrics, []
    if run.predictions is not None:
        wrong = int((~run.predictions["correct"]).sum())
        tiles.append(("Misclassified", f"{wrong:,}", f"of {len(run.predictions):,} test images"))
    if (gap := run.number("generalization_gap")) is not None:
        tiles.append(("Gap", points_with_unit(gap), "training minus test accuracy"))
    if (with_tta := run.number("test_accuracy_tta")) is not None:
        tiles.append(
            ("With test-time augmentation", percent(with_tta), "test accuracy over several views of each image")
        )
    if (best := run.number("best_val_accuracy")) is not None:
        note = f"in epoch {integer(run.number('best_epoch'))}"
        if (held_out := run.number("val_images")) and held_out >= 1 and 0 <= best <= 1:
            note += f"; {wilson_in_words(round(best * held_out), held_out)}"
        tiles.append(("Best validation accuracy", percent(best), note))
    if (total := run.number("total_seconds")) is not None:
        tiles.append(("Time", seconds(total), f"{seconds(run.number('train_seconds'))} of it training"))
    elif metrics is not None and (spent := _epoch_seconds(run)) is not None:
        tiles.append(("Time", seconds(spent * len(metrics)), f"in {plural(len(metrics), 'epoch')}"))
    speed = run.number("images_per_second")
    if speed is None and metrics is not None and "images_per_second" in metrics:
        speed = metrics["images_per_second"].mean()
    if speed is not None and not is_missing(speed):
        tiles.append(("Speed", f"{number(speed) if speed < 10 else integer(speed)} images/s", "in training"))
    if environment.get("device"):
        hardware = str(environment.get("gpu") or environment.get("cpu") or "")
        tiles.append(("Device", f"{environment['device']}, {environment.get('precision')}", hardware))
    if (parameters := run.number("parameters")) is not None:
        tiles.append(("Parameters", _rounded(parameters), f"{integer(parameters)} in all"))
    if (peak := run.number("peak_memory_bytes")) is not None:
        tiles.append(("Peak memory", memory(peak), ""))
    return tiles


def _rounded(count: float) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k" if count >= 1e4 else integer(count)


def _epoch_seconds(run: RunDirectory) -> float | None:
    """Mean time of an epoch, evaluation included; None if it is unknown."""
    if run.metrics is None or not {"train_seconds", "eval_seconds"} <= set(run.metrics):
        return None
    return float(run.metrics[["train_seconds", "eval_seconds"]].sum(axis=1).mean())


def _progress(run: RunDirectory) -> dict[str, Any] | None:
    """Completed epochs and remaining time of a running run."""
    done, epochs = run.status.get("epochs_completed"), run.config.get("epochs")
    if run.state != "running" or not isinstance(done, int) or not isinstance(epochs, int) or epochs < 1:
        return None
    per_epoch = _epoch_seconds(run)
    return {"done": done, "epochs": epochs, "left": None if per_epoch is None else seconds(per_epoch * (epochs - done))}


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
