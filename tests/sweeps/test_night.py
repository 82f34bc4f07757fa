"""A long sweep: of twelve jobs one diverges, one raises, one is killed with the program; then it is resumed."""

import csv
import json
import os
import signal
import subprocess

import pytest
from composing import TINY
from programs import PROGRAM, started, wait_for
from runs import measured

DIVERGING, RAISING, KILLED = 3, 5, 8
NETWORK = '''
"""A network of the user's own, with a mistake in it until it is fixed."""
import pathlib
from cifar_exp.models import resnet9

def network(**options):
    if not pathlib.Path(__file__).with_name("fixed").exists():
        raise ZeroDivisionError("a mistake in the user's own code")
    return resnet9(width=4, **options)
'''


@pytest.fixture
def sweep(tmp_path):
    """A folder with twelve experiments of the user's own and a package; returns how to start the program there."""
    options = tmp_path / "options" / "experiment"
    options.mkdir(parents=True)
    for number in range(12):
        model = "own" if number == RAISING else "resnet9"
        lines = ["# @package _global_", f"defaults: [{{override /model: {model}}}]"]
        lines.append(f"max_lr: {1e30 if number == DIVERGING else 0.01 * (number + 1)}")
        lines.append(f"epochs: {60 if number == KILLED else 1}")  # long enough to be killed
        if number != RAISING:
            lines.append("model: {width: 4}")
        (options / f"e{number:02}.yaml").write_text("\n".join(lines) + "\n")
    (tmp_path / "options" / "model").mkdir()
    (tmp_path / "options" / "model" / "own.yaml").write_text("_target_: own_network.network\nname: own\n")
    (tmp_path / "own_network.py").write_text(NETWORK)
    tiny = [argument for argument in TINY if not argument.startswith(("experiment=", "epochs=", "max_lr=", "model"))]
    names = ",".join(f"e{number:02}" for number in range(12))
    asked = ["data=mnist5k", *tiny, f"experiment={names}"]
    return tmp_path, ["-m", "--config-dir", "options", "trust=[own_network]", "hydra.sweep.dir=s", *asked]


def start(folder, *arguments):
    return started(
        [*PROGRAM, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def states(folder):
    with (folder / "s" / "sweep.csv").open(newline="") as file:
        return [row["state"] for row in csv.DictReader(file)]


def test_a_killed_sweep_is_resumed_twice(sweep):
    folder, asked = sweep
    with start(folder, *asked) as process:
        metrics = folder / "s" / str(KILLED) / "metrics.csv"
        wait_for(lambda: metrics.exists() or process.poll() is not None, seconds=300)
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, said
    finished = {number: measured(folder / "s" / str(number)) for number in range(KILLED)}
    written = {path: path.stat().st_mtime_ns for n in (0, 7) for path in (folder / "s" / str(n)).glob("*.csv")}
    assert "ZeroDivisionError" in (folder / "s" / str(RAISING) / "run.log").read_text()
    assert json.loads((folder / "s" / str(KILLED) / "status.json").read_text())["state"] == "running"

    with start(folder, "resume", "s", "--config-dir", "options", "--trust", "own_network") as process:
        said = process.communicate()[0]
    assert process.returncode == 1, said
    expected = ["completed"] * 12
    expected[DIVERGING], expected[RAISING] = "diverged", "failed"
    assert states(folder) == expected
    assert "resuming (was interrupted)" in said

    (folder / "fixed").touch()
    with start(folder, "resume", "s", "--config-dir", "options", "--trust", "own_network") as process:
        said = process.communicate()[0]
    expected[RAISING] = "completed"
    assert states(folder) == expected, said
    for number in set(range(KILLED)) - {RAISING}:
        assert measured(folder / "s" / str(number)) == finished[number]
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert said.count("already completed") == 10
