"""How many labels that were flipped on purpose does ``label_issues.csv`` find? Real networks, trained on clean labels.

python benchmarks/label_issues.py                              # three seeds of experiment=quickstart
python benchmarks/label_issues.py data.limit_train=400         # a weaker network
python benchmarks/label_issues.py experiment=speedrun          # other overrides
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import Limit, Report, Result, arguments

from cifar_exp.evaluation.probability_records import find_label_issues

FLIPPED = 0.02  # share of the test labels


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    options, overrides = parser.parse_known_args()
    if not any(one.startswith("experiment=") for one in overrides):
        overrides = ["experiment=quickstart", *overrides]
    report = Report("label_issues")
    accuracy, in_list, at_top, length, clean = [], [], [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(options.repeats):
            folder = Path(scratch, str(seed))
            command = [sys.executable, "-m", "cifar_exp", *overrides, f"seed={seed}", f"hydra.run.dir={folder}"]
            subprocess.run([*command, "figures=false", "report=false", "explain.images=0"], check=True)
            with np.load(folder / "probabilities.npz") as arrays:
                probabilities, labels = arrays["probabilities"], arrays["labels"]
            flipped, given = flip(labels, probabilities.shape[1], seed)
            issues = find_label_issues(probabilities, given)
            accuracy.append(float((probabilities.argmax(axis=1) == labels).mean()))
            in_list.append(float(np.isin(flipped, issues).mean()))
            at_top.append(float(np.isin(flipped, issues[: 2 * len(flipped)]).mean()))
            length.append(len(issues) / len(flipped))
            clean.append(len(find_label_issues(probabilities, labels)) / len(labels))
    report.add(Result("accuracy on the clean labels", "fraction", accuracy))
    report.add(Result("flipped labels in the list", "fraction", in_list))
    limit = Limit("measured", at_least=0.8)
    report.add(Result("flipped labels in its top (twice as many as were flipped)", "fraction", at_top, limit=limit))
    report.add(Result("length of the list", "per flipped label", length))
    report.add(Result("length of the list without flipped labels", "fraction of the images", clean))
    report.write(options.csv)


def flip(labels: np.ndarray, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the flipped labels, and all labels; each flipped one is another class at random."""
    generator = np.random.default_rng(seed)
    flipped = generator.choice(len(labels), round(FLIPPED * len(labels)), replace=False)
    given = labels.copy()
    given[flipped] = (labels[flipped] + generator.integers(1, classes, len(flipped))) % classes
    return flipped, given


if __name__ == "__main__":
    main()
