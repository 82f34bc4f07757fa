"""Peak resident memory of a default CIFAR-10 run on a CPU, and whether it grows from epoch to epoch.

    python benchmarks/memory.py                  # 60,000 images, epochs cut to 20 steps
    python benchmarks/memory.py --steps 352      # whole epochs

What a run holds is at its peak from the first step on, so the epochs are cut; everything else is as in a real run:
all images, the batches of training and evaluation, checkpoints, Grad-CAM, figures.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import Limit, Report, Result, arguments, overrides_for_synthetic_data

RUN = """\
import os, sys
from cifar_exp.cli.main import main
steps = int(os.environ["STEPS_AN_EPOCH"])
if steps:
    from cifar_exp.data.batches import TrainingBatches
    whole = TrainingBatches.per_epoch.fget
    TrainingBatches.per_epoch = property(lambda self: min(steps, whole(self)))
sys.exit(main())
"""
SETTLED = 20  # epochs after which nothing should grow any more


def run(overrides: list[str], folder: Path, steps: int) -> tuple[float, list[tuple[int, float]]]:
    """Peak resident MB of a run in a process of its own, and (epochs completed, resident MB) as it went on."""
    environment = os.environ | {"STEPS_AN_EPOCH": str(steps), "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", RUN, f"hydra.run.dir={folder}", *overrides]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    samples: list[tuple[int, float]] = []
    while True:
        pid, code, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        sample = _sample(process.pid, folder)
        if sample is not None:
            samples.append(sample)
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise SystemExit(f"the run ended with code {process.returncode}")
    return usage.ru_maxrss / 1024, samples  # kilobytes on Linux


def _sample(pid: int, folder: Path) -> tuple[int, float] | None:
    try:
        epochs = json.loads((folder / "status.json").read_text())["epochs_completed"]
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    except (OSError, ValueError, StopIteration):
        return None
    return epochs, resident / 1024


def at_epoch(samples: list[tuple[int, float]], epoch: int) -> float:
    """Largest resident MB seen while an epoch was the last one completed."""
    return max(resident for completed, resident in samples if completed == epoch)


def main() -> None:
    parser = arguments(__doc__, steps=20, epochs=3, tiny_epochs=200)
    parser.add_argument("override", nargs="*", help="config overrides of the default run")
    options = parser.parse_args()
    report = Report(f"memory {' '.join(options.override)}".strip())
    synthetic = overrides_for_synthetic_data()
    with tempfile.TemporaryDirectory() as scratch:
        peak, samples = run(
            [*synthetic, f"epochs={options.epochs}", "device=cpu", *options.override],
            Path(scratch) / "default",
            options.steps,
        )
        what = f"{' '.join(options.override) or 'default run, ResNet-18, 60,000 images'}, {options.epochs} epochs"
        report.add(Result(f"{what}: peak resident memory", "MB", [peak], limit=Limit("measured", at_most=2500)))
        early, late = at_epoch(samples, 1), at_epoch(samples, options.epochs - 1)
        report.add(Result(f"{what}: in epoch {options.epochs}", "MB", [late], [early], "in epoch 2", speed=False))
        tiny = ["experiment=quickstart", "model.width=4", "data.limit_train=300", "data.limit_test=100"]
        _, samples = run(
            [*tiny, f"epochs={options.tiny_epochs}", "figures=false", "device=cpu"], Path(scratch) / "tiny", 0
        )
        early, late = at_epoch(samples, SETTLED), at_epoch(samples, options.tiny_epochs - 1)
        report.add(
            Result(
                f"tiny run: growth from epoch {SETTLED} to {options.tiny_epochs}",
                "MB",
                [late - early],
                limit=Limit("measured", at_most=2.0),
            )
        )
    report.write(options.csv)


if __name__ == "__main__":
    main()
