"""`max_lr=auto` and `lr-find`: the suggestion of an LR range test is used, recorded, logged and compared."""

import json
import shlex

import numpy as np
import pytest
from composing import composed
from PIL import Image
from range_tests import AUTO, SMALL, curve_of, noisy

from cifar_exp import build as building
from cifar_exp.build import build
from cifar_exp.cli.evaluate import evaluate_run
from cifar_exp.cli.lr_find import sweep_command
from cifar_exp.cli.main import main
from cifar_exp.config.parse import changed
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.saved_run import open_run
from cifar_exp.runner import run
from cifar_exp.training.lr_range_test import LRRange, neighbours, read_lr_range_test


# --- max_lr=auto ---------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A run that found its learning rate: its directory and its summary row."""
    out_dir = tmp_path_factory.mktemp("auto") / "run"
    return out_dir, run(composed(*AUTO, "figures=true"), out_dir)


def never(*_arguments, **_options):
    raise AssertionError("searched again")


def test_auto_is_recorded_everywhere(found):
    out_dir, row = found
    value = row["max_lr_used"]
    summary = tables.read_table(out_dir / "summary.csv").iloc[0]
    assert value == summary["max_lr_used"] == read_lr_range_test(out_dir / "lr_find.csv").suggest().max_lr
    assert summary["config.max_lr"] == "auto"
    assert json.loads((out_dir / "status.json").read_text())["max_lr_used"] == value
    assert f"max_lr={value:g}. Half of the loss's fall" in (out_dir / "run.log").read_text()
    assert "max_lr: auto" in (out_dir / "config_resolved.yaml").read_text()
    assert 0.5 * value < summary["peak_learning_rate"] <= value
    with Image.open(out_dir / "lr_find.png") as image:
        assert np.asarray(image.convert("L")).std() > 10


def test_a_run_with_the_suggested_number_is_the_same_to_the_last_bit(found, tmp_path):
    out_dir, row = found
    run(composed(*SMALL, f"max_lr={row['max_lr_used']}"), tmp_path / "number")
    for name in ("steps.csv", "predictions.csv"):
        assert (tmp_path / "number" / name).read_bytes() == (out_dir / name).read_bytes()
    assert not (tmp_path / "number" / "lr_find.csv").exists()
    assert tables.read_table(tmp_path / "number" / "summary.csv")["max_lr_used"].item() == row["max_lr_used"]


def test_an_interrupted_run_is_resumed_with_the_number_that_it_found(found, tmp_path, monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    config = composed(*AUTO)
    with monkeypatch.context() as patch:
        patch.setattr("cifar_exp.stages.train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "run")
    assert tables.read_table(tmp_path / "run" / "summary.csv")["max_lr_used"].item() == found[1]["max_lr_used"]
    monkeypatch.setattr(building, "run_lr_range_test", never)
    row = run(config, tmp_path / "run", resume=True)
    assert row["max_lr_used"] == found[1]["max_lr_used"]
    assert (tmp_path / "run" / "steps.csv").read_bytes() == (found[0] / "steps.csv").read_bytes()


def test_evaluating_such_a_run_searches_for_nothing(found, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "run_lr_range_test", never)
    row = evaluate_run(open_run(found[0]), [], None, tmp_path / "evaluation")
    assert row["changed_predictions"] == 0


@pytest.mark.parametrize(("optimizer", "scheduler"), [("sgd", "cosine"), ("adamw", "multistep"), ("sgd", "constant")])
def test_every_scheduler_and_optimizer_gets_the_number(optimizer, scheduler, monkeypatch):
    monkeypatch.setattr(
        building, "run_lr_range_test", lambda *_: curve_of([*noisy(2.3, 60), *np.linspace(2.3, 1.3, 30)])
    )
    parts = build(composed(*AUTO, f"optimizer={optimizer}", f"scheduler={scheduler}"))
    assert parts.planned.max() == parts.max_lr == parts.lr_range_test.suggest().max_lr


def test_auto_without_a_suggestion_is_an_error_with_advice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(building, "LRRange", lambda: LRRange(1e-9, 1e-8, 30))
    monkeypatch.chdir(tmp_path)
    assert main([*AUTO, "hydra.run.dir=run"]) == 2
    error = capsys.readouterr().err
    assert "max_lr=auto: the LR range test has no suggestion; set a number" in error
    assert "did not fall at any learning rate from 1e-09 to 1e-08" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("typed", "value"), [("auto", "auto"), ("'auto'", "auto"), ("1", 1.0), ("'0.1'", 0.1), ("1e-3", 0.001)]
)
def test_allowed_values_of_max_lr(typed, value):
    found = composed(f"max_lr={typed}").max_lr
    assert found == value
    assert type(found) is type(value)


def test_refused_values_of_max_lr():
    config = composed()
    for value in (True, None, "many", "Auto", "", [1], ["auto"], {"a": 1}, "nan", "inf", "1e999", -0.1, 0):
        with pytest.raises(RequestError, match=r"^max_lr=.*: must be a finite number above 0, between .*, or auto"):
            changed(config, {"max_lr": value})


# --- the command ---------------------------------------------------------------------------------------
def test_the_command_finds_what_a_run_would(found, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["lr-find", *SMALL]) == 0
    (out_dir,) = (tmp_path / "outputs" / "lr_find").glob("????-??-??/*")
    names = {"lr_find.csv", "lr_find.png", "config_resolved.yaml", "environment.json"}
    assert names <= {path.name for path in out_dir.iterdir()} <= names | {"code.diff"}
    assert (out_dir / "lr_find.csv").read_bytes() == (found[0] / "lr_find.csv").read_bytes()
    out = capsys.readouterr().out
    value = found[1]["max_lr_used"]
    assert f"Suggested: max_lr={value:g}. Half of the loss's fall" in out
    command = next(line.strip() for line in out.splitlines() if line.strip().startswith("cifar-exp -m"))
    assert shlex.split(command)[-1] == f"max_lr={','.join(f'{lr:g}' for lr in neighbours(value))}"
    assert "max_lr=0.05" not in command  # the sweep replaces the override


def test_the_help_states_the_defaults(capsys):
    assert main(["lr-find", "--help"]) == 0
    text = capsys.readouterr().out
    default = LRRange()
    for value in (default.low, default.high, default.steps):
        assert f"(default: {value:g})" in text


def test_no_suggestion_is_exit_code_1_with_the_curve_to_look_at(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["lr-find", *SMALL, "--min-lr=1e-9", "--max-lr", "1e-8", "--steps", "30", "--out", str(out)]) == 1
    assert "No suggestion. The loss did not fall" in capsys.readouterr().out
    assert (out / "lr_find.png").stat().st_size > 10_000
    assert len(read_lr_range_test(out / "lr_find.csv").losses) == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["epohcs=3"], "did you mean 'epochs'"),
        (["max_lr=0.1,0.2"], "needs -m"),
        (["--min-lr", "1", "--max-lr", "0.1"], "--min-lr 1: must be below --max-lr, which is 0.1"),
        (["--min-lr", "-1"], "--min-lr -1.0: must be a finite number above 0"),
        (["--max-lr", "inf"], "--max-lr inf: must be a finite number above 0"),
        (["--steps", "10"], "--steps 10: must be between 30 and 1000000"),
        (["--out", "."], "--out .: already exists"),
        (["--config-dir", "nowhere"], "no such folder"),
    ],
)
def test_wrong_requests(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["lr-find", *SMALL, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_sweep_command_can_be_pasted():
    overrides = ["experiment=quickstart", "+max_lr=3", "trust=[my package]", "max_lr=auto"]
    command = sweep_command(overrides, "my options", 0.1)
    assert shlex.split(command) == [
        *["cifar-exp", "-m", "--config-dir", "my options"],
        *["experiment=quickstart", "trust=[my package]", "max_lr=0.033,0.1,0.3"],
    ]


# --- beside runs ---------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep in which one job finds its learning rate, run by the command line."""
    out_dir = tmp_path_factory.mktemp("sweep") / "sweep"
    assert main(["-m", *SMALL, "epochs=1", "max_lr=0.02,auto,0.4", f"hydra.sweep.dir={out_dir}"]) == 0
    return out_dir


def test_a_sweep_can_hold_auto_beside_numbers(sweep, found):
    used = [tables.read_table(sweep / str(job) / "summary.csv")["max_lr_used"].item() for job in range(3)]
    assert used == [0.02, found[1]["max_lr_used"], 0.4]
    assert (sweep / "1" / "lr_find.csv").read_bytes() == (found[0] / "lr_find.csv").read_bytes()


def test_a_sweeps_plan_searches_for_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(building, "run_lr_range_test", never)
    assert main(["-m", *SMALL, "max_lr=auto,0.1", "sweep.plan=true", f"hydra.sweep.dir={tmp_path / 'sweep'}"]) == 0
    assert "2 jobs, 2 to run" in capsys.readouterr().out


def compared(paths, out, capsys):
    assert main(["compare", *map(str, paths), "--out", str(out), "--no-page"]) == 0
    return capsys.readouterr().out


def test_compare_draws_accuracy_over_the_range_test(sweep, tmp_path, capsys):
    output = compared([sweep], tmp_path / "out", capsys)
    assert "figures/max_lr.png" in output
    with Image.open(tmp_path / "out" / "figures" / "max_lr.png") as image:
        assert np.asarray(image.convert("L")).std() > 10


def test_a_range_test_of_another_experiment_is_not_drawn(sweep, tmp_path, capsys):
    short = ["lr-find", *SMALL, "--steps", "30", "--out"]
    assert main([*short, str(tmp_path / "other"), "model.width=5"]) in (0, 1)
    assert main([*short, str(tmp_path / "mine"), "seed=7", "epochs=9"]) in (0, 1)
    capsys.readouterr()
    numbers = [sweep / job for job in "02"]  # jobs without a range test of their own
    output = compared([*numbers, tmp_path / "mine", tmp_path / "other"], tmp_path / "b", capsys)
    assert "figures/max_lr.png" in output
    assert "1 LR range test of other experiments is not drawn" in output
    (tmp_path / "mine" / "lr_find.csv").write_text("step,lear")
    output = compared([*numbers, tmp_path / "mine", tmp_path / "other"], tmp_path / "b", capsys)
    assert "lr_find.csv: cannot be read" in output
    assert "1 LR range test of other experiments is not drawn" in output
    assert "max_lr.png" not in output
    assert not (tmp_path / "b" / "figures" / "max_lr.png").exists()  # an earlier comparison's is removed


def test_a_range_test_alone_is_nothing_to_compare(tmp_path, found, capsys):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "lr_find.csv").write_bytes((found[0] / "lr_find.csv").read_bytes())
    assert main(["compare", str(tmp_path / "test"), "--out", str(tmp_path / "out")]) == 2
    assert "no run found" in capsys.readouterr().err
