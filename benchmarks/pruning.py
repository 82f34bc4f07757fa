"""What pruning would save: replays the recorded learning curves of a search in random orders.

    python benchmarks/pruning.py SWEEP

SWEEP is a finished search without pruning. A random order of its jobs is what the random sampler could have chosen; the
TPE sampler would react to pruned jobs, so its search has to be run with and without pruning instead.
"""

import argparse
import random
import statistics
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import TrialState

from cifar_exp.run_dir.tables import metrics_rows
from cifar_exp.sweeps.pruning import accuracy_at_steps, make_pruner


def curves(sweep: Path) -> list[list[float]]:
    """The validation accuracies of the completed jobs, after each epoch."""
    runs = sorted(path.parent for path in sweep.glob("*/predictions.csv"))
    return [[float(row["val_accuracy"] or 0) for row in metrics_rows(run / "metrics.csv")] for run in runs]


def replay(jobs: Sequence[Sequence[float]], name: str) -> tuple[float, float]:
    """The part of all epochs that is trained, and by how much the best validation accuracy falls."""
    study = optuna.create_study(study_name="sweep", direction="maximize", pruner=make_pruner(name))
    trained, completed = 0, []
    for job in jobs:
        trial, epochs, reported = study.ask(), len(job), set[int]()
        pruned = False
        for epoch in range(1, epochs + 1):
            trained += 1
            for step, accuracy in accuracy_at_steps(job[:epoch], epochs).items():
                if step not in reported and not pruned:
                    reported.add(step)
                    trial.report(accuracy, step)
                    pruned = trial.should_prune() and epoch < epochs
            if pruned:
                break
        study.tell(trial, None if pruned else job[-1], TrialState.PRUNED if pruned else None)
        completed += [] if pruned else [job[-1]]
    return trained / sum(map(len, jobs)), max(job[-1] for job in jobs) - max(completed)


def main() -> None:
    """Print both for each pruner: mean and standard deviation over the orders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--orders", type=int, default=100)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    jobs = curves(options.sweep)
    print(f"{len(jobs)} jobs, {sum(map(len, jobs))} epochs, {options.orders} random orders")
    for name in ("median", "hyperband"):
        results = [replay(random.Random(seed).sample(jobs, len(jobs)), name) for seed in range(options.orders)]
        parts, losses = zip(*results, strict=True)
        print(
            f"{name:9}  epochs {statistics.mean(parts):.0%} +- {statistics.stdev(parts):.0%}   best accuracy lower by "
            f"{100 * statistics.mean(losses):.2f} points on average, by more than 1 point in "
            f"{sum(loss > 0.01 for loss in losses)} orders"
        )


if __name__ == "__main__":
    main()
