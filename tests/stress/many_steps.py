"""A run directory with ten million steps: how long does it take to compare it and to draw its figures?

python tests/stress/many_steps.py --steps 10000000
"""

import argparse
import contextlib
import io
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from compare_runs import make_run

from cifar_exp.cli.commands import run_command
from cifar_exp.reports.figures.curves import draw_curves, draw_learning_rate
from cifar_exp.run_dir import tables
from cifar_exp.training.schedule import measure_use

compare = partial(run_command, "compare")

STEPS_PER_EPOCH = 1_000


def main() -> int:
    """Make the directory, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder, "run"))
        _write(run, options.steps)
        size = (run / "steps.csv").stat().st_size
        print(f"{options.steps:,} steps, steps.csv {size / 1e6:.0f} MB, {options.steps // STEPS_PER_EPOCH:,} epochs")
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            compare([folder, "--out", str(Path(folder, "out"))])
        print(f"cifar-exp compare: {_since(started)}")
        started = time.perf_counter()
        steps = tables.read_table(run / "steps.csv")
        print(f"reading steps.csv: {_since(started)}")
        started = time.perf_counter()
        used = steps["learning_rate"].to_numpy()
        draw_learning_rate(
            used, steps, measure_use("step", used, used, options.steps // STEPS_PER_EPOCH), run / "lr.png"
        )
        draw_curves(tables.read_table(run / "metrics.csv"), "ten million steps", run / "curves.png")
        print(f"learning_rate.png and curves.png: {_since(started)}")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")
    return 0


def _since(started: float) -> str:
    return f"{time.perf_counter() - started:.1f} s"


def _write(run: Path, steps: int) -> None:
    losses = [repr(loss) for loss in np.random.default_rng(0).random(STEPS_PER_EPOCH).tolist()]
    epochs = steps // STEPS_PER_EPOCH
    with (run / "steps.csv").open("w", encoding="utf-8") as file:
        file.write(",".join(tables.STEPS_COLUMNS) + "\n")
        for epoch in range(epochs):
            first, rate = epoch * STEPS_PER_EPOCH + 1, 0.1 * (1 - epoch / epochs)
            file.write("".join(f"{first + i},{epoch + 1},{rate!r},0.9,{loss}\n" for i, loss in enumerate(losses)))
    rows = (f"{n},{n * STEPS_PER_EPOCH},0.1,{1 / n!r},0.5,{1.1 / n!r},0.5,,,1,1,1000\n" for n in range(1, epochs + 1))
    (run / "metrics.csv").write_text(",".join(tables.METRICS_COLUMNS) + "\n" + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
