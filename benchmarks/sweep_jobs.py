"""What a job of a sweep costs beyond its own training, evaluation and figures, in one process.

    python benchmarks/sweep_jobs.py

Runs a sweep of small jobs on the embedded digits without figures, and takes from its length what the jobs say that
training and evaluation took. What is left is composing, building, records, checkpoints and releasing memory.
"""

import contextlib
import csv
import io
import json
import tempfile
from datetime import datetime
from pathlib import Path

from measuring import Limit, Report, Result, arguments

from cifar_exp.cli.main import main

_JOB = ("experiment=quickstart", "epochs=1", "figures=false", "explain.images=0", "report=false")


def overhead(folder: Path, jobs: int) -> list[float]:
    """Seconds of each job but the first, whose start-up is the process's."""
    asked = ["-m", *_JOB, f"seed=range({jobs})", f"hydra.sweep.dir={folder}"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(asked) == 0
    starts, own = [], []
    for number in range(jobs):
        status = json.loads((folder / str(number) / "status.json").read_text())
        starts.append(datetime.fromisoformat(status["started_at"]).timestamp())
        with (folder / str(number) / "metrics.csv").open(newline="") as file:
            own.append(sum(float(row["train_seconds"]) + float(row["eval_seconds"]) for row in csv.DictReader(file)))
    return [starts[i + 1] - starts[i] - own[i] for i in range(1, jobs - 1)]


if __name__ == "__main__":
    options = arguments(__doc__, jobs=12).parse_args()
    report = Report("sweep jobs")
    with tempfile.TemporaryDirectory() as folder:
        seconds = overhead(Path(folder, "sweep"), options.jobs)
    report.add(Result("a job beyond its training and evaluation", "s", seconds, limit=Limit("measured", at_most=0.3)))
    report.write(options.csv)
