"""A sweep: of five jobs one diverges, one raises, one is killed with the program; then it is resumed."""

import csv
import json
import os
import signal
import subprocess

from composing import TINY
from programs import PROGRAM, started, wait_for
from runs import measured

from cifar_exp.cli.main import main

JOBS, DIVERGING, RAISING, KILLED = 5, 1, 2, 3
NETWORK = '''
"""A network of the user's own, with a mistake in it until it is fixed."""
import pathlib
from cifar_exp.models import resnet9

def network(**options):
    if not pathlib.Path(__file__).with_name("fixed").exists():
        raise ZeroDivisionError("a mistake in the user's own code")
    return resnet9(width=4, **options)
'''


def user_files(folder):
    """Write an experiment for each job and a module with a network; returns the arguments of the sweep."""
    options = folder / "options" / "experiment"
    options.mkdir(parents=True)
    for number in range(JOBS):
        model = "own" if number == RAISING else "resnet9"
        lines = ["# @package _global_", f"defaults: [{{override /model: {model}}}]"]
        lines.append(f"max_lr: {1e30 if number == DIVERGING else 0.01 * (number + 1)}")
        lines.append(f"epochs: {20 if number == KILLED else 1}")  # long enough to be killed
        if number != RAISING:
            lines.append("model: {width: 4}")
        (options / f"e{number:02}.yaml").write_text("\n".join(lines) + "\n")
    (folder / "options" / "model").mkdir()
    (folder / "options" / "model" / "own.yaml").write_text("_target_: own_network.network\nname: own\n")
    (folder / "own_network.py").write_text(NETWORK)
    tiny = [argument for argument in TINY if not argument.startswith(("experiment=", "epochs=", "max_lr=", "model"))]
    names = ",".join(f"e{number:02}" for number in range(JOBS))
    experiments = ["data=mnist5k", *tiny, f"experiment={names}"]
    return ["-m", "--config-dir", "options", "trust=[own_network]", "hydra.sweep.dir=s", *experiments]


def states(folder):
    with (folder / "s" / "sweep.csv").open(newline="") as file:
        return [row["state"] for row in csv.DictReader(file)]


def test_a_killed_sweep_is_resumed_twice(tmp_path, monkeypatch, capsys):
    folder = tmp_path
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    environment = os.environ | {"PYTHONPATH": str(folder)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with started([*PROGRAM, *user_files(folder)], env=environment, **pipes) as process:
        metrics = folder / "s" / str(KILLED) / "metrics.csv"
        wait_for(lambda: metrics.exists() or process.poll() is not None, seconds=300)
        process.send_signal(signal.SIGKILL)
        output = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, output
    finished = {number: measured(folder / "s" / str(number)) for number in range(KILLED)}
    written = {path: path.stat().st_mtime_ns for path in (folder / "s" / "0").glob("*.csv")}
    assert "ZeroDivisionError" in (folder / "s" / str(RAISING) / "run.log").read_text()
    assert json.loads((folder / "s" / str(KILLED) / "status.json").read_text())["state"] == "running"

    resume = ["resume", "s", "--config-dir", "options", "--trust", "own_network"]
    assert main(resume) == 1
    expected = ["completed"] * JOBS
    expected[DIVERGING], expected[RAISING] = "diverged", "failed"
    assert states(folder) == expected
    assert "resuming (was interrupted)" in capsys.readouterr().out

    (folder / "fixed").touch()
    assert main(resume) == 1  # one job diverged
    expected[RAISING] = "completed"
    assert states(folder) == expected
    for number in set(range(KILLED)) - {RAISING}:
        assert measured(folder / "s" / str(number)) == finished[number]
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert capsys.readouterr().out.count("already completed") == JOBS - 2
