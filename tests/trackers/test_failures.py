"""What a run does if its tracker is missing, unknown, failing or a stranger's."""

import json
import logging
import sys
from types import SimpleNamespace

import pytest
from composing import composed
from tracker_records import SHORT

from cifar_exp import trackers
from cifar_exp.cli.main import main
from cifar_exp.config.resolved import load_saved, to_yaml
from cifar_exp.errors import RequestError
from cifar_exp.run_dir.saved_run import open_run
from cifar_exp.runner import run


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_refused_before_anything_is_written(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.chdir(tmp_path)
    assert main([*SHORT, f"tracker={name}"]) == 2
    logged = f"cifar-exp: tracker={name}: not installed; pip install 'cifar-exp[{name}]' or pip install {name}\n"
    assert capsys.readouterr().err == logged
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RequestError, match="not installed"):
        run(composed(*SHORT, f"tracker={name}"), tmp_path / "run")
    assert not (tmp_path / "run" / "steps.csv").exists()


def test_unknown_trackers_are_refused():
    known = "no such option.*; tracker has mlflow, none, tensorboard, wandb"
    for choice in ("comet", "[wandb,comet]"):
        with pytest.raises(RequestError, match=f"tracker=comet: {known}"):
            composed(f"tracker={choice}")
    with pytest.raises(RequestError, match=r"tracker\.name: unknown key; use tracker=NAME or 'tracker=\[NAME,NAME\]'"):
        composed("tracker.name=wandb")
    with pytest.raises(RequestError, match=r"tracker\.store=null: MLflow needs a folder"):
        composed("tracker=mlflow", "tracker.store=null")


class Broken:
    def __init__(self, where):
        self.where, self.calls = where, []

    def _do(self, what):
        self.calls.append(what)
        if what == self.where:
            raise OSError(28, "No space left on device")

    def begin(self, *_):
        self._do("begin")
        return self

    def after_epoch(self):
        self._do("after_epoch")

    def finish(self, state):
        self._do("finish")


@pytest.mark.parametrize(
    ("where", "calls"),
    [
        ("begin", ["begin"]),
        ("after_epoch", ["begin", "after_epoch"]),
        ("finish", ["begin", "after_epoch", "after_epoch", "finish"]),
        ("nowhere", ["begin", "after_epoch", "after_epoch", "finish"]),
    ],
)
def test_a_failing_tracker_is_dropped_and_the_run_completes(where, calls, tmp_path, monkeypatch, caplog):
    modules = {"tensorboard": (broken := Broken(where)), "mlflow": (sound := Broken("nowhere"))}
    monkeypatch.setattr(trackers, "check", lambda config: None)
    monkeypatch.setattr(
        trackers, "import_module", lambda name: SimpleNamespace(begin=modules[name.rpartition(".")[2]].begin)
    )
    with caplog.at_level(logging.WARNING):
        run(composed(*SHORT, "tracker=[tensorboard,mlflow]"), tmp_path / "run")
    assert broken.calls == calls
    assert sound.calls == ["begin", "after_epoch", "after_epoch", "finish"]
    logged = [one.getMessage() for one in caplog.records if "Tracker tensorboard failed" in one.getMessage()]
    assert len(logged) == (where != "nowhere")
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "completed"


def test_a_strangers_run_does_not_choose_the_tracker(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "check", lambda config: None)
    with monkeypatch.context() as patch:
        patch.setattr(trackers, "import_module", lambda name: Broken("nowhere"))
        run(composed(*SHORT, "tracker=mlflow", f"tracker.store={tmp_path}/theirs"), tmp_path / "run")
    for completed in (True, False):
        saved = open_run(tmp_path / "run", completed=completed, keeps_tracker=trackers.has_store)
        assert saved.config.tracker.names == []


@pytest.mark.parametrize(("name", "names"), [("none", []), ("mlflow", ["mlflow"])])
def test_a_saved_config_with_a_tracker_name_of_an_earlier_version(name, names, tmp_path):
    config = to_yaml(composed()).partition("tracker:")[0]
    path = tmp_path / "config_resolved.yaml"
    path.write_text(f"{config}tracker:\n  name: {name}\n  store: {tmp_path}\n  experiment: mine\n")
    tracker = load_saved(path).tracker
    assert (tracker.names, tracker.store, tracker.experiment) == (names, str(tmp_path), "mine")
