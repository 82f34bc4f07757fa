"""Many epochs of a tiny network: is memory flat, are the files linear, does an epoch take as long at the end?

    python tests/stress/long_run.py --epochs 2000

Prints a row for each tenth of the run and ends with exit code 1 if memory grew by more than a tenth, if an epoch of the
last tenth took more than 1.5 times the processor time of one of the first, or if a table is not as long as the run.
Processor time, because other work on the machine does not change it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

TINY = (
    "experiment=quickstart",
    "model.width=4",
    "batch_size=128",
    "data.limit_train=300",
    "data.limit_test=100",
    "threads=1",
    "explain.images=2",
)


def main() -> int:
    """Run, sample, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [sys.executable, "-m", "cifar_exp", *TINY, f"epochs={options.epochs}", f"hydra.run.dir={run}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        samples: list[Sample] = []
        sampling = threading.Thread(target=_sample, args=(process, run, samples))
        sampling.start()
        try:
            code = process.wait()
        finally:
            process.kill()
            sampling.join()
        if code:
            print(f"the run ended with exit code {code}")
            return 1
        return _judge(run, options.epochs, samples)


@dataclass
class Sample:
    """What a look at the process and its files saw."""

    epochs: int
    cpu_seconds: float
    resident: int
    open_files: int
    table_bytes: int


def _sample(process: "subprocess.Popen[bytes]", run: Path, samples: list[Sample]) -> None:
    """Look once a second until the process ends."""
    system = Path("/proc", str(process.pid))
    while process.poll() is None:
        time.sleep(1)
        try:
            status = (system / "status").read_text(encoding="utf-8").splitlines()
            ticks = (system / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            samples.append(
                Sample(
                    epochs=(run / "metrics.csv").read_text(encoding="utf-8").count("\n") - 1,
                    cpu_seconds=(int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK"),
                    resident=1024 * int(next(line for line in status if line.startswith("VmRSS")).split()[1]),
                    open_files=len(list((system / "fd").iterdir())),
                    table_bytes=sum(path.stat().st_size for path in run.glob("*.csv")),
                )
            )
        except (OSError, StopIteration):
            continue


def _judge(run: Path, epochs: int, samples: list[Sample]) -> int:
    metrics, steps = pd.read_csv(run / "metrics.csv"), pd.read_csv(run / "steps.csv")
    print(f"{'epochs':>12}  {'CPU ms an epoch':>15}  {'resident MB':>11}  {'open files':>10}  {'tables, kB':>10}")
    training = [sample for sample in samples if sample.epochs < epochs]  # the figures at the end take more
    costs = []
    for part in range(10):
        first, last = part * epochs // 10, (part + 1) * epochs // 10
        here = [sample for sample in training if first < sample.epochs <= last]
        start, end = here[0], here[-1]
        costs.append(1e3 * (end.cpu_seconds - start.cpu_seconds) / (end.epochs - start.epochs))
        figures = f"{end.resident / 1e6:>11.1f}  {end.open_files:>10}  {end.table_bytes / 1e3:>10.0f}"
        print(f"{first + 1:>5} - {last:>4}  {costs[-1]:>15.1f}  {figures}")
    log = (run / "run.log").stat().st_size
    figures_size = sum(path.stat().st_size for path in (run / "figures").iterdir())
    print(f"{len(metrics):,} rows of metrics, {len(steps):,} of steps; run.log {log / 1e3:.0f} kB, ", end="")
    print(f"figures {figures_size / 1e3:.0f} kB, checkpoints {len(list((run / 'checkpoints').iterdir()))} files")
    early, late = training[len(training) // 10].resident, training[-1].resident
    problems = []
    if len(metrics) != epochs or len(steps) != epochs * metrics["step"].iloc[0]:
        problems.append("a table is not as long as the run")
    if costs[-1] > 1.5 * costs[0]:
        problems.append(f"an epoch took {costs[0]:.1f} ms at first and {costs[-1]:.1f} ms at the end")
    if late > 1.1 * early:
        problems.append(f"memory grew from {early / 1e6:.0f} to {late / 1e6:.0f} MB")
    print("; ".join(problems) or "memory flat, files linear, time per epoch flat")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
