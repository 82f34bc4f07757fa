"""The jobs of a sweep: table, record and runs have the same values."""

import json
from pathlib import Path

import pytest
from composing import TINY
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from cifar_exp.cli.main import main
from cifar_exp.config.compose import is_multirun
from cifar_exp.errors import RequestError
from cifar_exp.sweeps.grid import MOST_JOBS, Request, check_directories, compose_sweep, expand
from cifar_exp.sweeps.record import write_record

ROOT = Path(__file__).resolve().parents[2]

QUIET = [
    *(text for text in TINY if not text.startswith(("max_lr", "explain", "epochs"))),
    "epochs=1",
    "explain.images=0",
]
BY_NAME = "hydra.sweep.subdir=${hydra.job.override_dirname}"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cifar_exp.sweeps.ledger._compare", lambda sweep_dir: None)
    return tmp_path


def composed(*overrides, **options):
    sweep = compose_sweep(Request(list(overrides), **options))
    check_directories(sweep)
    return sweep


@pytest.mark.parametrize(
    "overrides",
    [
        ["max_lr=0.1,0.2", "epochs=range(1,4)"],
        ["seed=range(0,10,3)", "model=resnet9,resnet18"],
        ["epochs=sort(3,1,2)", "seed=1"],
        ["name='a,b',c", "max_lr=choice(0.1,0.2)"],
        ["seed=0,1", "max_lr=0.1", "seed=3,4,5"],
        ["+model.x=1,2"],
    ],
)
def test_the_grid_is_the_one_of_hydras_own_sweeper(overrides):
    parsed = OverridesParser.create().parse_overrides(overrides)
    assert expand(parsed) == BasicSweeper.split_arguments(parsed, None)[0]


def test_every_job_is_checked_before_the_first_one_starts():
    sweep = composed("max_lr=0.1,0.2", "epochs=range(1,4)")
    assert [(j.config.max_lr, j.config.epochs) for j in sweep.jobs] == [
        (lr, epochs) for lr in (0.1, 0.2) for epochs in (1, 2, 3)
    ]
    with pytest.raises(RequestError, match="epochs=0"):
        composed("max_lr=0.1,0.2", "epochs=3,0")


def test_a_glob_is_every_option_of_a_group():
    options = {path.stem for path in (ROOT / "conf" / "augment").glob("*.yaml")}
    assert {job.config.augment.name for job in composed("augment=glob(*)").jobs} == options


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=range(1000000)"], f"more than {MOST_JOBS:,} jobs"),
        (["seed=shuffle(range(0,1e15))"], "more than"),
        (["max_lr=range(0,inf)"], "more than"),
        (["seed=range(200)", "max_lr=range(0.1,1,0.001)"], "more than"),
        (["seed=range(0,5,0)"], "step must not be 0"),
        (["seed=range(5,5)"], "has no values"),
        (["max_lr=interval(0.1,1)"], "hydra/sweeper=optuna"),
        (["seed=0,1", "hydra.sweep.subdir=same"], "jobs 0 and 1 would share"),
        (["seed=0,1", "hydra.sweep.subdir=./same/${epochs}"], "jobs 0 and 1 would share"),
        (["seed=0,1", "hydra.sweep.subdir=../${hydra.job.num}"], "must be a folder in the sweep's directory"),
        (["seed=0,1", "hydra.sweep.subdir=/tmp/${hydra.job.num}"], "must be a folder in the sweep's directory"),
        (["seed=0", "hydra.sweep.subdir=."], "must be a folder in the sweep's directory"),
        (["seed=0,1", "hydra.sweep.subdir=${nope}"], "hydra.sweep.subdir"),
        (["seed=0,1", f"name={'n' * 300}", BY_NAME], "longer than a folder's name can be"),
        (["seed=0,1", "hydra.sweep.dir=${oc.env:NO_SUCH_NAME}"], "hydra.sweep.dir"),
        (["hydra.sweeper.max_batch_size=0", "seed=0,1"], "must be at least 1"),
    ],
)
def test_an_impossible_sweep_is_refused_at_once(here, capsys, overrides, message):
    assert main(["-m", *overrides]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) <= 2
    assert list(here.iterdir()) == []


def test_jobs_keep_their_values_and_their_directories(here):
    """Values in a random order, directories named after them; the same command, and ``resume``, find them again."""
    asked = ["-m", *QUIET, "max_lr=shuffle(0.01,0.02,0.03)", BY_NAME, "hydra.sweep.dir=s"]
    asked.append(
        "hydra.job.config.override_dirname.exclude_keys=[" + ",".join(text.split("=")[0] for text in QUIET) + "]"
    )
    assert main(asked) == 0
    jobs = json.loads((here / "s" / "sweep.json").read_text())["jobs"]
    for job in jobs:
        assert job["run"] == f"max_lr={job['overrides']['max_lr']}"
        assert (
            f"\nmax_lr: {job['overrides']['max_lr']}\n"
            in (here / "s" / job["run"] / "config_resolved.yaml").read_text()
        )
    written = {path: path.stat().st_mtime_ns for path in here.glob("s/*/metrics.csv")}
    assert len(written) == 3
    assert main(asked) == 0
    assert main(["resume", "s"]) == 2, "hydra.job.config... names the directories and is not recorded"
    assert main(["resume", "s", asked[-1]]) == 0
    assert {path: path.stat().st_mtime_ns for path in here.glob("s/*/metrics.csv")} == written


@pytest.mark.parametrize(
    "mode", ["hydra: {mode: MULTIRUN, sweeper: {params: {seed: '1,2'}}}", "hydra: {mode: MULTIRUN}"]
)
def test_a_sweep_in_a_file_of_the_user(here, mode):
    (here / "own" / "experiment").mkdir(parents=True)
    (here / "own" / "experiment" / "grid.yaml").write_text(f"# @package _global_\n{mode}\n")
    asked = ["experiment=grid"] if "params" in mode else ["experiment=grid", "seed=1,2"]
    assert is_multirun(asked, "config", str(here / "own"))
    sweep = composed(*asked, config_dir=str(here / "own"))
    assert [job.config.seed for job in sweep.jobs] == [1, 2]
    assert [job.overrides for job in sweep.jobs] == [{"seed": "1"}, {"seed": "2"}]
    sweep = composed(*asked[:1], "seed=3,4", config_dir=str(here / "own"))
    assert [job.config.seed for job in sweep.jobs] == [3, 4]


def test_a_record_depends_neither_on_the_environment_nor_on_the_folder(here, monkeypatch):
    monkeypatch.setenv("DATA", str(here / "da ta"))
    monkeypatch.setenv("SEED", "7")
    overrides = ["data=image_folder", "data.root=${oc.env:DATA}/x,y", "seed=${oc.env:SEED}", "name=${model.name}_x"]
    sweep = composed(*overrides)
    sweep.directory.mkdir(parents=True)
    write_record(sweep, Request(overrides))
    first, second = (job["arguments"] for job in json.loads((sweep.directory / "sweep.json").read_text())["jobs"])
    assert first == ["data=image_folder", f"data.root='{here}/da ta/x'", "seed=7", "name=${model.name}_x"]
    assert second[1] == f"data.root='{Path.cwd()}/y'"
