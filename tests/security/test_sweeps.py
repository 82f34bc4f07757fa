"""A sweep from someone else, gone on with: its record decides values of the experiment, and nothing else."""

import json
import os

import pytest

from cifar_exp.cli.main import main
from cifar_exp.cli.resume import _allowed

SMALL = ["experiment=quickstart", "epochs=1", "data.limit_train=300", "data.limit_test=20", "model.width=4"]
QUIET = ["report=false", "figures=false", "explain.images=0"]


@pytest.mark.parametrize(
    "override",
    [
        "--config-dir=elsewhere",
        "-cd",
        "data={cache: /tmp/elsewhere}",
        "data={cache: /tmp/a},{cache: /tmp/b}",
        "tracker={name: mlflow, store: /tmp/elsewhere}",
        "name='${oc.env:HOME}'",
        "name=${oc.env:HOME}",
        "+data@hydra.callbacks.x=mnist5k",
        "data@hydra.callbacks.x=mnist5k",
        "data.cache=/tmp/elsewhere",
        "hydra.run.dir=/tmp/elsewhere",
        "trust=[os]",
        "not an override",
    ],
)
def test_a_record_decides_nothing_beside_the_experiment(override):
    assert _allowed([override], ".") == ([], [override])


@pytest.mark.parametrize(
    "override",
    ["max_lr=0.1,0.2", "name='${model.name} mine'", "data=image_folder", "model.widths=[8,8,8]", "seed=range(3)"],
)
def test_values_of_the_experiment_are_given_again(override):
    assert _allowed([override], ".") == ([override], [])


def test_resuming_writes_nowhere_else(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sweep, elsewhere = tmp_path / "sweep", tmp_path / "elsewhere"
    sweep.mkdir()
    given = [*SMALL, *QUIET, f"data={{cache: {elsewhere}}}", "seed=0"]
    record = {"overrides": given, "config_name": "config", "folder": str(tmp_path), "jobs": []}
    (sweep / "sweep.json").write_text(json.dumps(record))
    assert main(["resume", str(sweep)]) == 0
    assert not elsewhere.exists()
    assert "Not taken from the sweep's record" in capsys.readouterr().out
    assert (sweep / "0" / "summary.csv").exists()


@pytest.mark.parametrize("name", ["multirun.yaml", "0/run.log"])
def test_a_pipe_in_a_sweep_is_named_before_anything_waits_for_it(tmp_path, name, capsys):
    (tmp_path / "0").mkdir()
    (tmp_path / "sweep.json").write_text("{}")
    os.mkfifo(tmp_path / name)
    assert main(["resume", str(tmp_path)]) == 2
    assert f"{tmp_path / name}: is neither a file nor a folder" in capsys.readouterr().err
