"""Time, memory and growth of `cifar-exp compare` on thousands of runs.

Makes runs by copying one run's small files with changed values (seed, max_lr, epochs, metrics; a few failed), then
compares 1,000, 3,000 and 10,000 of them, each in a process of its own, three times. The table shows the medians of the
wall clock and the peak resident set.

    python benchmarks/compare_runs.py                    # of a small run made for the benchmark
    python benchmarks/compare_runs.py /tmp/one_run       # of a completed run of yours
"""

import csv
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from measuring import Report, Result, arguments

SIZES = [1_000, 3_000, 10_000]
PREDICTION_VARIANTS = 50
COMMAND = """\
import sys
from cifar_exp.cli.commands import run_command

code = run_command("compare", sys.argv[1:])
assert "torch" not in sys.modules, "compare must not import torch"
sys.exit(code)
"""


def make_runs(source: Path, folder: Path, count: int) -> None:
    """Write ``count`` runs below ``folder``: sweeps of 100 jobs, every 200th failed."""
    rng = random.Random(0)
    with (source / "summary.csv").open(newline="") as file:
        [summary] = csv.DictReader(file)
    config = (source / "config_resolved.yaml").read_text()
    status = json.loads((source / "status.json").read_text())
    metrics = (source / "metrics.csv").read_bytes()
    variants = folder / "variants"
    variants.mkdir(parents=True)
    wrong = [_predictions(source, variants / str(number), rng) for number in range(PREDICTION_VARIANTS)]
    images = sum(1 for _ in (source / "predictions.csv").open()) - 1
    for number in range(count):
        run = folder / f"sweep_{number // 100:03d}" / str(number % 100)
        run.mkdir(parents=True)
        variant = rng.randrange(PREDICTION_VARIANTS)
        failed = number % 200 == 199
        seed, max_lr, epochs = number % 5, rng.choice((0.01, 0.02, 0.05, 0.1, 0.2)), rng.choice((5, 10, 20, 40))
        row = summary | {
            "state": "failed" if failed else "completed",
            "test_accuracy": "" if failed else repr(1 - wrong[variant] / images),
            "misclassified": "" if failed else wrong[variant],
            "val_accuracy": "" if failed else repr(rng.random()),
            "train_seconds": "" if failed else repr(100 * rng.random()),
            "config.seed": seed,
            "config.max_lr": max_lr,
            "config.epochs": epochs,
            # Made different on purpose: a sweep over ten thousand combinations.
            "config.optimizer.weight_decay": repr(number // 5 / 1e6),
        }
        with (run / "summary.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            writer.writeheader()
            writer.writerow(row)
        told = status | {"state": row["state"], "error": "RuntimeError: out of memory" if failed else None}
        (run / "status.json").write_text(json.dumps(told, indent=2))
        (run / "config_resolved.yaml").write_text(config)
        (run / "metrics.csv").write_bytes(metrics)
        # Linked, so that the benchmark does not need gigabytes; only those of the runs shown are read.
        os.link(variants / str(variant), run / "predictions.csv")
        for own in (".hydra", "checkpoints", "figures"):
            (run / own).mkdir()


def _predictions(source: Path, path: Path, rng: random.Random) -> int:
    """A copy of the predictions with some turned wrong; returns how many are wrong."""
    with (source / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})
    share = 0.3 * rng.random()
    for row in rows:
        if rng.random() < share:
            row["prediction"] = rng.choice(labels)
        row["correct"] = str(row["label"] == row["prediction"])
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return sum(row["correct"] == "False" for row in rows)


def measure(folder: Path, out: Path) -> tuple[float, float]:
    """Seconds and peak resident megabytes of one comparison in a process of its own."""
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execv(sys.executable, [sys.executable, "-c", COMMAND, str(folder), "--out", str(out)])
    _, code, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    if code:
        raise SystemExit(f"compare failed on {folder}")
    return seconds, usage.ru_maxrss / 1024  # kilobytes on Linux


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("run", type=Path, nargs="?", help="a completed run to copy; by default one is made")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of runs, rising")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/compare_runs"), help="is emptied first")
    options = parser.parse_args()
    shutil.rmtree(options.scratch, ignore_errors=True)
    source = options.run
    if source is None:
        source = options.scratch / "source"
        command = [sys.executable, "-m", "cifar_exp", "experiment=quickstart", "epochs=1", f"hydra.run.dir={source}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    report = Report("compare_runs")
    first: list[float] = []
    for size in options.sizes:
        folder = options.scratch / str(size)
        make_runs(source, folder / "runs", size)
        taken, peaks = zip(*(measure(folder / "runs", folder / "out") for _ in range(options.repeats)), strict=True)
        baseline, name = (first, f"{options.sizes[0]:,} runs") if first else ([], "")
        report.add(Result(f"comparing {size:,} runs", "s", taken, baseline, name, speed=False))
        report.add(Result(f"comparing {size:,} runs, peak resident memory", "MB", peaks))
        first = first or list(taken)
    report.write(options.csv)
    shutil.rmtree(options.scratch)


if __name__ == "__main__":
    main()
