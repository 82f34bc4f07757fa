"""Resuming a stranger's sweep: its record may set values of the experiment, nothing else."""

import json
import os
import uuid

import pytest

from cifar_exp.cli.main import main
from cifar_exp.config.compose import composition
from cifar_exp.sweeps.record import is_allowed

SMALL = ["experiment=quickstart", "epochs=1", "data.limit_train=300", "data.limit_test=20", "model.width=4"]
QUIET = ["report=false", "figures=false", "explain.images=0"]


@pytest.fixture
def allowed():
    with composition(None) as loader:
        yield lambda text: is_allowed(text, ".", loader)


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
        "name='${model.name}${oc.env:HOME}'",
        "model.widths=['${oc.decode:${oc.env:HOME}}']",
        "+data@hydra.callbacks.x=mnist5k",
        "data@hydra.callbacks.x=mnist5k",
        "data.cache=/tmp/elsewhere",
        "++data.cache=/tmp/elsewhere",
        "hydra.run.dir=/tmp/elsewhere",
        "hydra.sweep.subdir=${oc.env:HOME}",
        "hydra.searchpath=[/tmp]",
        "trust=[os]",
        "not an override",
        "experiment=../../../tmp/theirs",
        "experiment='../../../tmp/theirs'",
        "experiment=[quickstart,../../../tmp/theirs]",
        "experiment=quickstart,../../../tmp/theirs",
        "experiment=/tmp/theirs",
        "experiment=theirs",
        "experiment=sub/theirs",
        "+experiment/../../theirs=x",
        "+experiment/sub=theirs",
        "+nosuchgroup/sub=theirs",
        "model=glob(*)",
        "hydra/launcher=../../theirs",
        "hydra/launcher=theirs",
        "hydra/job_logging=default",
        "+hydra/callbacks=theirs",
        "hydra/launcher={_target_: os.system}",
    ],
)
def test_a_record_decides_nothing_beside_the_experiment(allowed, override):
    assert not allowed(override)


@pytest.mark.parametrize(
    "override",
    [
        "max_lr=0.1,0.2",
        "name='${model.name} mine'",
        "data=image_folder",
        "model.widths=[8,8,8]",
        "seed=range(3)",
        "experiment=quickstart,published",
        "experiment=null",
        "experiment=[quickstart]",
        "data.root='/data/my ../images'",
        "hydra/launcher=joblib",
        "hydra.sweep.subdir=${hydra.job.override_dirname}",
        "~experiment",
    ],
)
def test_values_of_the_experiment_are_given_again(allowed, override):
    assert allowed(override)


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A stranger's sweep with YAML beside it; returns its path and the way from a config group to that YAML."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", uuid.uuid4().hex)
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    evil = "# @package _global_\nname: ${oc.env:SECRET}\nhydra: {callbacks: {x: {_target_: pandas.read_pickle}}}\n"
    (sweep / "e.yaml").write_text(evil)
    return sweep, f"{'../' * 20}{str(sweep)[1:]}/e"


@pytest.mark.parametrize("where", ["overrides", "arguments", "config_name", "group"])
def test_a_record_names_no_yaml_by_its_path(theirs, capsys, where):
    sweep, path = theirs
    given = [*SMALL, *QUIET, "seed=0"]
    record = {"overrides": given, "config_name": "config", "folder": str(sweep), "jobs": []}
    if where == "overrides":
        record["overrides"] = [*given, f"experiment={path}"]
    elif where == "arguments":
        record["jobs"] = [{"job": 0, "run": "0", "overrides": {}, "arguments": [*given, f"experiment={path}"]}]
    elif where == "config_name":
        record["config_name"] = path
    else:
        record["overrides"] = [*given, f"+{path}=e"]
    (sweep / "sweep.json").write_text(json.dumps(record))
    assert main(["resume", str(sweep)]) == (2 if where == "config_name" else 0)
    captured = capsys.readouterr()
    assert "Ignored" in captured.out or "no such config" in captured.err
    written = [file for file in sweep.rglob("*") if file.is_file()]
    assert not any(os.environ["SECRET"].encode() in file.read_bytes() for file in written)


@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["run", "sweep"])
def test_the_command_line_names_no_yaml_by_its_path(theirs, capsys, flags):
    sweep, path = theirs
    for argument in (f"experiment={path}", f"experiment=[{path}]", f"experiment={sweep}/e", f"+experiment={path}"):
        assert main([*flags, argument]) == 2
        assert "must be the name of an option, not a path" in capsys.readouterr().err
    assert main([*flags, f"--config-name={path}"]) == 2
    own = sweep / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(f"# @package _global_\ndefaults: [{{override /model: {path}}}]\n")
    assert main([*flags, "--config-dir", str(own.parent), "experiment=mine"]) == 2
    capsys.readouterr()
    assert sorted(file.name for file in sweep.iterdir()) == ["e.yaml", "own"]


def test_resuming_writes_nowhere_else(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sweep, elsewhere = tmp_path / "sweep", tmp_path / "elsewhere"
    sweep.mkdir()
    given = [*SMALL, *QUIET, f"data={{cache: {elsewhere}}}", "seed=0"]
    record = {"overrides": given, "config_name": "config", "folder": str(tmp_path), "jobs": []}
    (sweep / "sweep.json").write_text(json.dumps(record))
    assert main(["resume", str(sweep)]) == 0
    assert not elsewhere.exists()
    assert "Ignored from the sweep's record" in capsys.readouterr().out
    assert (sweep / "0" / "summary.csv").exists()


@pytest.mark.parametrize("name", ["multirun.yaml", "0/run.log"])
def test_a_pipe_in_a_sweep_is_named_before_anything_waits_for_it(tmp_path, name, capsys):
    (tmp_path / "0").mkdir()
    (tmp_path / "sweep.json").write_text("{}")
    os.mkfifo(tmp_path / name)
    assert main(["resume", str(tmp_path)]) == 2
    assert f"{tmp_path / name}: is neither a file nor a folder" in capsys.readouterr().err
