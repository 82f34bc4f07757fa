"""What a run's numbers say, in plain words, each with the cells that say it."""

from collections.abc import Callable, Iterator

from cifar_exp.reports.run_page import findings_confidence, findings_predictions, findings_training
from cifar_exp.reports.run_page.sources import Statement
from cifar_exp.run_dir.read import RunDirectory

_PRESSING = {"bad": 0, "note": 1}
_ALL: tuple[Callable[[RunDirectory], Iterator[Statement]], ...] = (
    findings_training.ended_early,
    findings_training.warnings,
    findings_training.selection,
    findings_predictions.accuracy,
    findings_training.gap,
    findings_training.validation,
    findings_training.validation_and_test,
    findings_training.schedule,
    findings_training.range_test,
    findings_predictions.explained_layers,
    findings_predictions.attention,
    findings_predictions.classes,
    findings_confidence.confidence,
    findings_confidence.label_issues,
    findings_training.published_loss,
    findings_training.time_spent,
)


def statements(run: RunDirectory) -> list[Statement]:
    """All that can be said: warnings first, then notes, then the rest, each in the order of a reader's questions."""
    found = [statement for say in _ALL for statement in say(run)]
    return sorted(found, key=lambda statement: _PRESSING.get(statement.kind, 2))
