"""Interrupted and resumed runs, compared with the same run without an interruption."""

import json
import shutil
import signal

import pytest
import torch
from composing import TINY, composed
from runs import measured, signal_at
from torch import nn

from cifar_exp.cli.main import main
from cifar_exp.config.resolved import to_yaml
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import checkpoint, run_status, tables
from cifar_exp.runner import run
from cifar_exp.training.progress import EpochProgress

STEPS_AN_EPOCH = 3  # of TINY: 270 images, 128 in a batch


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    run(composed(*TINY), out_dir)
    return measured(out_dir)


def state(out_dir):
    return json.loads((out_dir / "status.json").read_text())["state"]


@pytest.mark.parametrize("step", [1, STEPS_AN_EPOCH, STEPS_AN_EPOCH + 1, 2 * STEPS_AN_EPOCH])
def test_interrupted_after_any_step(tmp_path, undisturbed, at_step, step):
    out_dir = tmp_path / "run"
    at_step(step)
    with pytest.raises(KeyboardInterrupt):
        run(composed(*TINY), out_dir)
    assert state(out_dir) == "interrupted"
    saved = torch.load(out_dir / "checkpoints" / "last.pt", weights_only=True)
    assert saved["step"] == step
    assert main(["resume", str(out_dir)]) == 0
    assert state(out_dir) == "completed"
    assert measured(out_dir) == undisturbed


def test_interrupted_while_evaluating(tmp_path, undisturbed, monkeypatch, capsys):
    out_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        evaluate = nn.functional.nll_loss
        calls = []

        def signalling(*arguments, **options):
            calls.append(0)
            if len(calls) == 2:  # of the second epoch's validation
                signal.raise_signal(signal.SIGTERM)
            return evaluate(*arguments, **options)

        patch.setattr(nn.functional, "nll_loss", signalling)
        assert main([*TINY, f"hydra.run.dir={out_dir}"]) == 143
    assert state(out_dir) == "interrupted"
    error = capsys.readouterr().err
    assert f"interrupted; saved at epoch 2, step 6. Resume with: cifar-exp resume {out_dir}" in error
    assert "Traceback" not in error
    saved = torch.load(out_dir / "checkpoints" / "last.pt", weights_only=True)
    assert (saved["epoch"], saved["step"]) == (1, 2 * STEPS_AN_EPOCH)
    assert len(tables.read_table(out_dir / "metrics.csv")) == 1
    assert main(["resume", str(out_dir)]) == 0
    assert measured(out_dir) == undisturbed


def test_interrupted_after_training(tmp_path, undisturbed, monkeypatch):
    out_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("cifar_exp.stages.explain", lambda *a, **k: signal.raise_signal(signal.SIGINT))
        assert main([*TINY, f"hydra.run.dir={out_dir}"]) == 130
    assert main(["resume", str(out_dir)]) == 0
    assert measured(out_dir) == undisturbed


def test_interrupted_again_and_again_with_loader_processes(tmp_path, undisturbed, monkeypatch, at_step):
    out_dir = tmp_path / "run"
    at_step(2)
    assert main([*TINY, "data.workers=2", f"hydra.run.dir={out_dir}"]) == 130
    for _ in range(2):
        at_step(1)
        assert main(["resume", str(out_dir)]) == 130
    monkeypatch.undo()
    assert main(["resume", str(out_dir)]) == 0
    assert len(json.loads((out_dir / "status.json").read_text())["resumed_at"]) == 3
    assert measured(out_dir) == undisturbed


def test_a_network_that_draws_random_numbers(tmp_path, at_step):
    network = ("model._target_=tiny_networks.plain", "trust=[tiny_networks]", "+model.dropout=0.5")
    config = composed(*TINY, *network, "explain.images=0")
    run(config, tmp_path / "whole")
    at_step(4)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "parts")
    run(config, tmp_path / "parts", resume=True)
    assert measured(tmp_path / "parts") == measured(tmp_path / "whole")


def test_the_best_weights_and_an_epochwise_schedule(tmp_path, at_step):
    options = ("evaluation.weights=best", "scheduler=multistep", "scheduler.interval=epoch", "epochs=3")
    run(composed(*TINY, *options), tmp_path / "whole")
    at_step(5)
    with pytest.raises(KeyboardInterrupt):
        run(composed(*TINY, *options), tmp_path / "parts")
    run(composed(*TINY, *options), tmp_path / "parts", resume=True)
    assert measured(tmp_path / "parts") == measured(tmp_path / "whole")
    whole, parts = (torch.load(tmp_path / name / "checkpoints" / "best.pt") for name in ("whole", "parts"))
    assert whole["epoch"] == parts["epoch"]
    assert all(torch.equal(tensor, parts["model"][name]) for name, tensor in whole["model"].items())


def test_a_run_killed_between_its_records_and_its_checkpoint(tmp_path, undisturbed, monkeypatch):
    """Rows after the last checkpoint, an incomplete last row, a partly written file, and no lock."""
    out_dir = tmp_path / "run"

    def killed(*_arguments, **_options):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("cifar_exp.training.savepoint.checkpoint.save", killed)
        assert main([*TINY, f"hydra.run.dir={out_dir}"]) == 1
    with (out_dir / "steps.csv").open("a") as file:
        file.write("4,2,0.0")
    (out_dir / "checkpoints").mkdir(exist_ok=True)
    (out_dir / "checkpoints" / ".last.pt.1.tmp").write_bytes(b"half")
    assert state(out_dir) == "failed"
    assert main(["resume", str(out_dir)]) == 0
    assert measured(out_dir) == undisturbed
    assert list(out_dir.rglob("*.tmp")) == []


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        signal_at(patch, 2)
        assert main([*TINY, f"hydra.run.dir={out_dir}"]) == 130
    return out_dir


@pytest.fixture
def interrupted(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "run")


def contents(out_dir):
    return {path: path.read_bytes() for path in out_dir.rglob("*") if path.is_file() and path.name != ".lock"}


def refused(capsys, arguments, *words):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    for word in words:
        assert word in said


def test_resume_refuses_changed_settings_and_running_runs(tmp_path, interrupted, capsys):
    before = contents(interrupted)
    run_dir = str(interrupted)
    refused(capsys, ["resume", run_dir, "epochs=30"], "epochs=30", "the schedule was planned for 2", "start a new run")
    refused(capsys, ["resume", run_dir, "max_lr=1"], "max_lr=1", "the config that it started with")
    refused(capsys, ["resume", str(tmp_path)], "neither a run nor a sweep")
    refused(capsys, ["resume", str(tmp_path / "no")], "there is no such run")
    refused(capsys, [*TINY, f"hydra.run.dir={run_dir}"], "already contains a run (interrupted)", "cifar-exp resume")
    with run_status.locked(interrupted):
        refused(capsys, ["resume", run_dir], "another process is running this run")
    assert contents(interrupted) == before

    config = composed(*TINY, "epochs=5")
    (interrupted / "config_resolved.yaml").write_text(to_yaml(config))
    refused(capsys, ["resume", run_dir], "was edited since the run started", "epochs")


def test_a_damaged_checkpoint_is_reported(interrupted, capsys):
    (interrupted / "checkpoints" / "last.pt").write_bytes(b"not a checkpoint")
    refused(capsys, ["resume", str(interrupted)], "last.pt", "not a checkpoint")
    assert state(interrupted) == "failed"


@pytest.mark.parametrize("table", ["metrics.csv", "steps.csv"])
def test_a_table_with_the_columns_of_another_version_is_refused(interrupted, capsys, table):
    content = "epoch,step,speed\n1,3,0.5\n"
    (interrupted / table).write_text(content)
    refused(capsys, ["resume", str(interrupted)], table, "its columns are not those that this version")
    assert (interrupted / table).read_text() == content


def test_other_data_is_refused(interrupted, capsys):
    environment = json.loads((interrupted / "environment.json").read_text())
    (interrupted / "environment.json").write_text(json.dumps(environment | {"data_fingerprint": "0" * 64}))
    refused(capsys, ["resume", str(interrupted)], "the data is not what the run started with")


def test_another_machine_is_reported(interrupted, capsys):
    environment = json.loads((interrupted / "environment.json").read_text())
    (interrupted / "environment.json").write_text(json.dumps(environment | {"cpu": "abacus"}))
    assert main(["resume", str(interrupted)]) == 0
    assert "may differ" in (said := capsys.readouterr().out)
    assert "abacus" in said
    assert json.loads((interrupted / "environment.json").read_text())["cpu"] == "abacus"  # where it started


def test_a_completed_and_a_diverged_run_are_not_changed(tmp_path, capsys):
    out_dir = tmp_path / "run"
    assert main([*TINY, "epochs=1", f"hydra.run.dir={out_dir}"]) == 0
    before = contents(out_dir)
    assert main(["resume", str(out_dir)]) == 0
    assert "nothing left to do" in capsys.readouterr().out
    assert contents(out_dir) == before
    diverged = tmp_path / "diverged"
    assert main([*TINY, "max_lr=1e30", f"hydra.run.dir={diverged}"]) == 1
    before = contents(diverged)
    assert main(["resume", str(diverged)]) == 1
    assert "diverge again" in capsys.readouterr().out
    assert contents(diverged) == before


def test_a_second_signal_does_not_wait(tmp_path, monkeypatch):
    """Two Ctrl-C within one step end the run at once."""

    def twice(*_arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second signal was delayed")

    monkeypatch.setattr(EpochProgress, "update", twice)
    with pytest.raises(KeyboardInterrupt):
        run(composed(*TINY), tmp_path / "run")
    assert state(tmp_path / "run") == "interrupted"
    assert not (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def test_checkpoints_within_an_epoch(tmp_path, monkeypatch):
    saved = []
    save = checkpoint.save

    def counting(path, model, **saved_state):
        saved.append((path.name, saved_state["step"]))
        save(path, model, **saved_state)

    monkeypatch.setattr(checkpoint, "save", counting)
    run(composed(*TINY, "checkpoint.every_seconds=1e-9", "checkpoint.best=false"), tmp_path / "often")
    assert {step for name, step in saved if name == "last.pt"} == set(range(1, 7))
    saved.clear()
    run(composed(*TINY, "checkpoint.every_epochs=2", "checkpoint.best=false"), tmp_path / "seldom")
    assert saved == [("last.pt", 6)]


def test_rows_are_kept_up_to_an_epoch(tmp_path):
    path, columns = tmp_path / "steps.csv", ("step", "epoch", "loss")
    path.write_text("step,epoch,loss\n1,1,0.5\n2,1,0.25\n3,2,0.125\n4,2,0.0")
    tables.keep_epochs(path, columns, 1)
    assert path.read_text() == "step,epoch,loss\n1,1,0.5\n2,1,0.25\n"
    assert tables.keep_epochs(path, (*columns, "new"), 1) == {"new"}
    with pytest.raises(ValueError, match="its columns are not those that this version"):
        tables.keep_epochs(path, ("epoch", "step", "loss"), 1)
    tables.keep_epochs(path, columns, 0)
    assert not path.exists()


def test_a_directory_is_locked_by_one_process(tmp_path):
    assert not run_status.is_locked(tmp_path)
    with run_status.locked(tmp_path):
        assert run_status.is_locked(tmp_path)
        with pytest.raises(RequestError, match="another process is running this run"), run_status.locked(tmp_path):
            pass
    assert not run_status.is_locked(tmp_path)
