"""A search by Optuna: it survives failed and lost jobs, and resumes where it stopped."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from composing import TINY
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from runs import state_of

from cifar_exp.cli.main import main
from cifar_exp.errors import RequestError
from cifar_exp.sweeps.search import corners, search

PARAMS = {"max_lr": "tag(log, interval(0.01, 1.0))", "epochs": "range(5, 31, 5)"}


class Launcher:
    """Invents the value of a job, highest at max_lr=0.1; some jobs have none."""

    def __init__(self, *, failing=(), killed_at: int | None = None) -> None:
        self.failing = set(failing)
        self.killed_at = killed_at
        self.ran: list[tuple[int, list[str]]] = []

    def launch(self, job_overrides, initial_job_idx):
        returns = []
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            if number == self.killed_at:
                raise KeyboardInterrupt
            self.ran.append((number, overrides))
            max_lr = float(dict(item.split("=") for item in overrides)["max_lr"])
            value = None if number in self.failing else 1 - abs(max_lr - 0.1)
            returns.append(JobReturn(status=JobStatus.COMPLETED, _return_value=value))
        return returns

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.ran]


@pytest.fixture
def go(tmp_path):
    pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'cifar-exp[optuna]'")

    def run(launcher: Launcher, n_trials: int, folder: str = "sweep", n_jobs: int = 1, **settings) -> Launcher:
        given = {"sampler": "tpe", "pruner": "none", "seed": 0, "params": PARAMS} | settings
        sweeper = given | {"n_trials": n_trials, "n_jobs": n_jobs}
        config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path / folder)}, "sweeper": sweeper}})
        search(launcher, config, ["batch_size=64"])
        return launcher

    return run


def test_searched_values_stay_within_bounds_and_other_overrides_are_fixed(go):
    ran = go(Launcher(), 12).ran
    assert [number for number, _ in ran] == list(range(12))
    for _, overrides in ran:
        given = dict(item.split("=") for item in overrides)
        assert given["batch_size"] == "64"
        assert 0.01 <= float(given["max_lr"]) <= 1
        assert int(given["epochs"]) in range(5, 31, 5)
    assert len({tuple(overrides) for _, overrides in ran}) == 12


def test_failed_jobs_do_not_end_it_and_the_best_is_written(go, tmp_path):
    ran = go(Launcher(failing=[0, 2]), 6).ran
    assert len(ran) == 6
    values = {n: 1 - abs(float(dict(i.split("=") for i in given)["max_lr"]) - 0.1) for n, given in ran}
    best = max((value, number) for number, value in values.items() if number not in (0, 2))
    result = OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml")
    assert (result.best_value, result.best_job) == pytest.approx(best)
    jobs = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["jobs"]
    assert [job["job"] for job in jobs] == list(range(6))
    assert set(jobs[0]["overrides"]) == set(PARAMS)


def test_all_jobs_failed(go, tmp_path):
    assert go(Launcher(failing=range(3)), 3).numbers == [0, 1, 2]
    assert not (tmp_path / "sweep" / "optimization_results.yaml").exists()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_stopped_search_resumes_with_the_same_choices(go, n_jobs):
    undisturbed = go(Launcher(), 6, folder="other", n_jobs=n_jobs).ran
    stopped = Launcher(killed_at=3)
    with pytest.raises(KeyboardInterrupt):
        go(stopped, 6, n_jobs=n_jobs)
    again = go(Launcher(), 6, n_jobs=n_jobs)
    assert set(again.numbers) >= {3, 4, 5}
    assert 0 not in again.numbers
    assert dict(again.ran) | dict(stopped.ran) == dict(undisturbed)


def test_a_failed_job_runs_again_with_its_values(go, tmp_path):
    first = go(Launcher(failing=[1, 2]), 4)
    again = go(Launcher(), 4)
    assert again.ran == [first.ran[1], first.ran[2]]
    assert go(Launcher(), 4).ran == []
    assert go(Launcher(), 5).numbers == [4], "more of the same search"


def test_unfinished_jobs_of_another_search_are_not_run(go):
    """A journal can come from a stranger, and its values would become overrides."""
    go(Launcher(failing=[1]), 2)
    other = Launcher()
    with pytest.raises(RequestError, match="search of other values"):
        go(other, 2, params={"max_lr": PARAMS["max_lr"]})
    with pytest.raises(RequestError, match="search of other values"):
        go(other, 2, params=PARAMS | {"max_lr": "interval(0.5, 0.6)"})
    assert other.ran == []


def test_corners_of_the_search_space():
    pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'cifar-exp[optuna]'")
    given = corners({"max_lr": "interval(0.1, 1)", "epochs": "range(5, 31, 5)"}, ["seed=3", "model=resnet9,resnet18"])
    assert given == [
        ["seed=3", "max_lr=0.1", "epochs=5", "model=resnet9"],
        ["seed=3", "max_lr=1.0", "epochs=30", "model=resnet18"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["max_lr=interval(-1,1)"], "max_lr=-1"),
        (["optimizer.weight_decay=tag(log,interval(0,1))"], "interval(0,1)): cannot be searched"),
        (["augment=glob(*)"], "augment=glob(*): cannot be searched"),
        (["modell=resnet9,resnet18"], "unknown key"),
        (["hydra.sweeper.sampler=tpp"], "must be tpe or random"),
        (["hydra.sweeper.n_trials=0"], "must be at least 1"),
        (["hydra.sweeper.params=null"], "nothing to search"),
        (["data.validation_fraction=0"], "hydra/sweeper=optuna needs a validation split"),
    ],
)
def test_a_wrong_search_writes_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'cifar-exp[optuna]'")
    monkeypatch.chdir(tmp_path)
    assert main(["-m", *TINY, "hydra/sweeper=optuna", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_trials_on_digits(tmp_path, monkeypatch, capsys):
    """Some trials diverge: the search continues, and ends with exit code 1, as any sweep with a failed job."""
    pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'cifar-exp[optuna]'")
    monkeypatch.chdir(tmp_path)
    command = ["-m", *TINY, "explain.images=0", "hydra/sweeper=optuna", "hydra.sweep.dir=sweep", "epochs=range(1,3)"]
    command.append("max_lr=tag(log,interval(0.01,1e9))")
    code = main([*command, "hydra.sweeper.n_trials=4"])
    states = [state_of(Path("sweep", str(job)))["state"] for job in range(4)]
    assert set(states) == {"completed", "diverged"}
    assert code == 1
    out = capsys.readouterr().out
    assert "Best of 4 jobs" in out
    best = OmegaConf.load("sweep/optimization_results.yaml")
    assert SimpleNamespace(**best).best_value == pytest.approx(
        max(
            float(line.split(",")[6])
            for line in Path("sweep/sweep.csv").read_text().splitlines()[1:]
            if line.split(",")[2] == "completed"
        )
    )
    finished = {job: Path("sweep", str(job), "metrics.csv").stat().st_mtime_ns for job in range(4)}
    assert main([*command, "hydra.sweeper.n_trials=4"]) == 1
    assert finished == {job: Path("sweep", str(job), "metrics.csv").stat().st_mtime_ns for job in range(4)}
