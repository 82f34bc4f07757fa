"""Findings about a run's training."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from cifar_exp.evaluation.statistics import independent_difference_interval, wilson_interval
from cifar_exp.reports.html.formats import integer, number, percent, points_with_unit
from cifar_exp.reports.html.parts import Finding, Source
from cifar_exp.run_dir.read import RunDirectory
from cifar_exp.safe_io.plural import plural

# Thresholds of the wording; the numbers are always given.
GAP_TO_NOTE, GAP_TO_WARN = 0.05, 0.15  # training minus test accuracy
RISEN_LOSS = 1.1  # validation loss at the end over the lowest one
STILL_RISING = 0.005  # validation accuracy, last epoch minus the one before

_MOST_WARNINGS, _MOST_CHARACTERS = 10, 500  # of status.json
_ENDED = {"failed": "failed", "diverged": "diverged", "interrupted": "was interrupted", "pruned": "was pruned"}


def early_end(run: RunDirectory) -> Iterator[Finding]:
    """Why the run ended before its last epoch."""
    if run.state in _ENDED:
        error = str(run.status.get("error") or "it was killed without recording a reason")
        source = Source("status.json", "state and error", "", str(run.status.get("state")))
        done = 0 if run.metrics is None else len(run.metrics)
        text = f"After {plural(done, 'completed epoch')}: {error}."
        yield Finding("bad", f"The run {_ENDED[run.state]}", text, (source,))


def warnings(run: RunDirectory) -> Iterator[Finding]:
    """What the run could not write after training."""
    found = run.status.get("warnings")
    for warning in found[:_MOST_WARNINGS] if isinstance(found, list) else []:
        source = Source("status.json", "warnings", "", "the traceback is in run.log")
        yield Finding("note", "Missing from this run", str(warning)[:_MOST_CHARACTERS], (source,))


def gap(run: RunDirectory) -> Iterator[Finding]:
    """Overfitting: training minus test accuracy."""
    columns = ("generalization_gap", "train_accuracy", "test_accuracy")
    gap, train, test = (run.number(column) for column in columns)
    if gap is None or train is None or test is None:
        return
    if gap > GAP_TO_NOTE:
        kind, title = "bad" if gap > GAP_TO_WARN else "note", "Overfitting"
        advice = "Stronger augmentation, more weight decay, fewer epochs or more data usually reduce the gap."
    elif gap < 0:
        kind, title = "plain", "No overfitting yet"
        advice = (
            "It is negative because the training accuracy is the mean over the epoch, on augmented images and with "
            "a network that was still learning."
        )
    else:
        kind, title = "good", "Little overfitting"
        advice = "The network is nearly as accurate on new images as on its training images."
    accuracies = f"Training accuracy {percent(train)}, test accuracy {percent(test)}"
    text = f"{accuracies}: a gap of {points_with_unit(gap)}. {advice}"
    yield Finding(kind, title, text, summary_cells(run, *columns))


def validation(run: RunDirectory) -> Iterator[Finding]:
    """Whether the validation loss rose again, or the validation accuracy was still rising."""
    if run.metrics is None:
        return
    measured = run.metrics[["epoch", "val_loss", "val_accuracy"]].dropna()
    if len(measured) < 2:
        return
    last, lowest = measured.iloc[-1], measured.iloc[int(measured["val_loss"].argmin())]
    if last["val_loss"] > RISEN_LOSS * lowest["val_loss"]:
        text = (
            f"The validation loss was lowest in epoch {integer(lowest['epoch'])} ({number(lowest['val_loss'])}) and "
            f"{number(last['val_loss'])} at the end: since then the confidence of wrong predictions has grown."
        )
        sources = (_metrics_cell(lowest, "val_loss"), _metrics_cell(last, "val_loss"))
        yield Finding("note", "The validation loss rose again", text, sources)
    before = measured.iloc[-2]
    rise = float(last["val_accuracy"] - before["val_accuracy"])
    if rise > STILL_RISING and int(measured["val_accuracy"].argmax()) == len(measured) - 1 and run.state != "running":
        text = (
            f"Validation accuracy rose by {points_with_unit(rise).lstrip('+')} in the last epoch, to "
            f"{percent(last['val_accuracy'])}, its highest: more epochs may help."
        )
        sources = (_metrics_cell(before, "val_accuracy"), _metrics_cell(last, "val_accuracy"))
        yield Finding("plain", "Still improving at the end", text, sources)


def validation_and_test(run: RunDirectory) -> Iterator[Finding]:
    """Whether validation and test accuracy differ by more than chance."""
    accuracy, held_out = run.number("val_accuracy"), run.number("val_images")
    if run.predictions is None or accuracy is None or not held_out or held_out < 1 or not 0 <= accuracy <= 1:
        return
    right, n = int(run.predictions["correct"].sum()), len(run.predictions)
    held_out_right = round(accuracy * held_out)
    least, most = independent_difference_interval(held_out_right, int(held_out), right, n)
    text = (
        f"Validation accuracy {percent(accuracy)} ({wilson_in_words(held_out_right, held_out)}, "
        f"{integer(held_out)} images), test accuracy {percent(right / n)}. Validation minus test: "
        f"{points_with_unit(accuracy - right / n)}, 95% interval {points_with_unit(least)} to {points_with_unit(most)}."
    )
    sources = summary_cells(run, "val_accuracy", "val_images", "test_accuracy")
    if least <= 0 <= most:
        yield Finding("plain", "Validation and test agree", text, sources)
    else:
        text += (
            " Chance alone does not explain this: the two splits differ, or the selection by the validation split "
            "made its accuracy optimistic."
        )
        yield Finding("note", "Validation and test differ by more than chance", text, sources)


def selection(run: RunDirectory) -> Iterator[Finding]:
    """Whether the best epoch was selected on the test images."""
    if run.summary.get("selection_split") == "test":
        text = (
            "There was no validation split, so the best epoch was selected on the test images: its accuracy is "
            "optimistic. data.validation_fraction=0.1 holds images out for the selection."
        )
        yield Finding(
            "bad", "The best epoch was selected on the test images", text, summary_cells(run, "selection_split")
        )


def schedule(run: RunDirectory) -> Iterator[Finding]:
    """Whether the planned learning rates were used."""
    planned, used = run.number("schedule_steps_planned"), run.number("schedule_steps_used")
    peak = run.number("peak_learning_rate")
    if planned is None or used is None or peak is None:
        return
    sources = summary_cells(run, "schedule_steps_planned", "schedule_steps_used", "peak_learning_rate")
    wanted = None
    if run.schedule is not None and run.schedule["learning_rate"].notna().any():
        wanted = float(run.schedule["learning_rate"].max())
        row = f"step {integer(run.schedule['step'].iloc[int(run.schedule['learning_rate'].argmax())])}"
        sources += (Source("schedule.csv", row, "learning_rate", f"{wanted:.6g}"),)
    if used >= planned:
        text = f"All {integer(planned)} planned steps were used; the learning rate peaked at {peak:.4g}."
        yield Finding("good", "The schedule was used as planned", text, sources)
        return
    text = f"Only {integer(used)} of {integer(planned)} planned steps were used; the learning rate peaked at {peak:.6g}"
    text += f" where {wanted:.4g} was planned." if wanted is not None else "."
    if run.setting("scheduler.interval") == "epoch":
        text += " The schedule is planned in steps but advances once per epoch: set scheduler.interval=step."
    yield Finding("bad", "The schedule was not used", text, sources)


def range_test(run: RunDirectory) -> Iterator[Finding]:
    """The learning rate that ``max_lr=auto`` found."""
    used = run.number("max_lr_used")
    if run.setting("max_lr") == "auto" and used is not None:
        text = f"max_lr=auto: the LR range test before training suggested {used:.4g}, the peak of the schedule."
        yield Finding("plain", "Learning rate from the LR range test", text, summary_cells(run, "max_lr_used"))


def published_loss(run: RunDirectory) -> Iterator[Finding]:
    """The loss as the published run computed it, against the loss per image."""
    printed, loss = run.number("test_loss_as_published"), run.number("test_loss")
    if printed and loss:
        text = (
            f"As the published run computed it, the test loss reads {number(printed)}; per image it is {number(loss)}, "
            f"{loss / printed:.0f} times that."
        )
        sources = summary_cells(run, "test_loss_as_published", "test_loss")
        yield Finding("note", "The published loss is too small", text, sources)


# --- sources and intervals, also of other findings ---
def summary_cells(run: RunDirectory, *columns: str) -> tuple[Source, ...]:
    """The cells of ``summary.csv`` in these columns, without empty ones."""
    values = ((column, run.summary.get(column)) for column in columns)
    return tuple(
        Source("summary.csv", "the only one", column, f"{value:.6g}" if isinstance(value, float) else str(value))
        for column, value in values
        if value is not None
    )


def _metrics_cell(row: "pd.Series[Any]", column: str) -> Source:
    """The cell of ``metrics.csv`` in this row and column."""
    return Source("metrics.csv", f"epoch {integer(row['epoch'])}", column, f"{row[column]:.6g}")


def wilson_in_words(right: float, n: float) -> str:
    """The interval of the accuracy of ``right`` among ``n`` predictions."""
    low, high = wilson_interval(int(right), int(n))
    return f"95% interval {percent(low)} to {percent(high)}"
