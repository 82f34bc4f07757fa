"""What a run's numbers say, in plain words, each with the cells that say it."""

from collections.abc import Callable, Iterator

from cifar_exp.run_report import about_predictions, about_training
from cifar_exp.run_report.directory import RunDirectory
from cifar_exp.run_report.statement import Statement

_PRESSING = {"bad": 0, "note": 1}
_ALL: tuple[Callable[[RunDirectory], Iterator[Statement]], ...] = (
    about_training.ended_early,
    about_training.warnings,
    about_training.selection,
    about_predictions.accuracy,
    about_training.gap,
    about_training.validation,
    about_training.schedule,
    about_training.range_test,
    about_predictions.explained_layers,
    about_predictions.attention,
    about_predictions.classes,
    about_predictions.confidence,
    about_training.published_loss,
    about_training.time_spent,
)


def statements(run: RunDirectory) -> list[Statement]:
    """All that can be said: warnings first, then notes, then the rest, each in the order of a reader's questions."""
    found = [statement for say in _ALL for statement in say(run)]
    return sorted(found, key=lambda statement: _PRESSING.get(statement.kind, 2))
