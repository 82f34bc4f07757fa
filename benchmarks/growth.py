"""How the cost of a run grows: with images, with epochs, with classes.

python benchmarks/growth.py
"""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import Report, Result, arguments, overrides_for_synthetic_data

# A network so small that what a run does around it shows.
SMALL = ["model=resnet9", "model.width=4", "batch_size=128", "data.limit_test=1000", "explain.images=10"]
IMAGES, EPOCHS, CLASSES = (2_000, 8_000, 32_000), (2, 8, 32), (10, 100, 1000)


def total_seconds(overrides: list[str], folder: Path, classes: int = 10) -> float:
    """``total_seconds`` of a run in a process of its own, as its summary says: without the program's start."""
    environment = os.environ | {"SYNTHETIC_CLASSES": str(classes), "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-m", "cifar_exp", f"hydra.run.dir={folder}", *overrides]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    with (folder / "summary.csv").open(newline="", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    return float(row["total_seconds"])


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    options = parser.parse_args()
    report = Report("growth")
    base = [*overrides_for_synthetic_data(), *SMALL]
    cases = [
        *[(f"{n:,} training images, 2 epochs, 10 classes", n, 2, 10) for n in IMAGES],
        *[(f"2,000 training images, {n} epochs, 10 classes", 2_000, n, 10) for n in EPOCHS[1:]],
        *[(f"2,000 training images, 2 epochs, {n:,} classes", 2_000, 2, n) for n in CLASSES[1:]],
    ]
    times: dict[str, list[float]] = {case[0]: [] for case in cases}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(options.repeats):
            for number, (what, images, epochs, classes) in enumerate(cases):
                overrides = [*base, f"data.limit_train={images}", f"epochs={epochs}"]
                times[what].append(total_seconds(overrides, Path(scratch) / f"{turn}-{number}", classes))
    first = times[cases[0][0]]
    for what, values in times.items():
        report.add(Result(f"whole run: {what}", "s", values, first, cases[0][0], speed=False))
    report.write(options.csv)


if __name__ == "__main__":
    main()
