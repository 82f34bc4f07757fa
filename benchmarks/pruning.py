"""What pruning saves in finished searches, and what it would save in one without pruning.

    python benchmarks/pruning.py SWEEP...

Prints the epochs, the training time and the best validation accuracy of each search. The learning curves of a search
without pruning are then replayed in random orders. A random order is what the random sampler could have chosen; the TPE
sampler would react to pruned jobs, so compare its searches with and without pruning instead.
"""

import argparse
import random
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.trial import TrialState

from cifar_exp.run_dir import run_status
from cifar_exp.run_dir.tables import metrics_rows
from cifar_exp.sweeps.pruning import accuracy_at_steps, make_pruner


def read_jobs(sweep: Path) -> list[tuple[str | None, Sequence[Mapping[str, float | int | None]]]]:
    """State and epochs of each job."""
    paths = sorted(sweep.glob("*/metrics.csv"))
    return [(run_status.job_state(path.parent), metrics_rows(path)) for path in paths]


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
    """Print a line for each search, and what each pruner would save: mean and standard deviation over the orders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", metavar="SWEEP", nargs="+", type=Path)
    parser.add_argument("--orders", type=int, default=100)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for sweep in options.sweeps:
        jobs = read_jobs(sweep)
        curves = [[float(row["val_accuracy"] or 0) for row in rows] for state, rows in jobs if state == "completed"]
        pruned = sum(state == "pruned" for state, _ in jobs)
        epochs = sum(len(rows) for _, rows in jobs)
        seconds = sum(float(row["train_seconds"] or 0) for _, rows in jobs for row in rows)
        print(
            f"{sweep}: {len(curves)} jobs completed, {pruned} pruned, {epochs} epochs in {seconds:.0f} s, "
            f"best validation accuracy {max(curve[-1] for curve in curves):.2%}"
        )
        if not pruned:
            print_replays(curves, options.orders)


def print_replays(jobs: Sequence[Sequence[float]], orders: int) -> None:
    """Replay the jobs in random orders with each pruner."""
    for name in ("median", "hyperband"):
        results = [replay(random.Random(seed).sample(jobs, len(jobs)), name) for seed in range(orders)]
        parts, losses = zip(*results, strict=True)
        print(
            f"  {name:9}  epochs {statistics.mean(parts):.0%} +- {statistics.pstdev(parts):.0%}   "
            f"best accuracy lower by {100 * statistics.mean(losses):.2f} points on average, "
            f"by more than 1 point in {sum(loss > 0.01 for loss in losses)} of {orders} orders"
        )


if __name__ == "__main__":
    main()
