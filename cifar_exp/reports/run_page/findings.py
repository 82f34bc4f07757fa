"""What a run's numbers say, in plain words, each statement with the cells of the records behind it."""

from collections.abc import Callable, Iterator

from cifar_exp.reports.html.findings import Finding
from cifar_exp.reports.run_page import findings_predictions, findings_training
from cifar_exp.run_dir.read import RunDirectory

_URGENCY = {"bad": 0, "note": 1}
_ALL: tuple[Callable[[RunDirectory], Iterator[Finding]], ...] = (
    findings_training.early_end,
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
    findings_predictions.confidence,
    findings_predictions.label_issues,
    findings_training.published_loss,
    findings_training.time_spent,
)


def findings(run: RunDirectory) -> list[Finding]:
    """All findings: warnings first, then cautions, then the rest in the order of a reader's questions."""
    found = [finding for find in _ALL for finding in find(run)]
    return sorted(found, key=lambda finding: _URGENCY.get(finding.kind, 2))
