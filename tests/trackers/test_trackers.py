"""TensorBoard and MLflow hold what the CSVs hold, read back by the libraries' own readers."""

import json
import shutil
import socket
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from composing import composed
from PIL import Image
from tracker_records import SHORT, expected_scalars, expected_summary

from cifar_exp import trackers
from cifar_exp.config.parse import changed, flatten
from cifar_exp.errors import DivergedError
from cifar_exp.run_dir import lifecycle
from cifar_exp.run_dir.saved_run import open_run
from cifar_exp.runner import run


def their_own_warnings():
    """Ignores warnings of the libraries."""
    return warnings.catch_warnings(action="ignore")


def needed(name):
    with their_own_warnings():
        return pytest.importorskip(name, reason=f"{name} is not installed: pip install 'cifar-exp[{name}]'")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any attempt to reach another machine fails the test, even one whose failure would be swallowed."""
    asked = []

    def refuse(*arguments, **_):
        asked.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not asked


# --- TensorBoard ---------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def on_tensorboard(tmp_path_factory):
    """A run with its config, and the same run without a tracker."""
    needed("tensorboard")
    folder = tmp_path_factory.mktemp("runs")
    config = composed(*SHORT, "figures=true", "tracker=tensorboard")
    run(config, folder / "run")
    run(composed(*SHORT), folder / "untracked")
    return config, folder / "run", folder / "untracked"


def events_of(out_dir):
    with their_own_warnings():
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(out_dir / "tensorboard"), {"scalars": 0, "images": 0, "tensors": 0})
        return events.Reload()


def test_tensorboard_holds_the_csvs(on_tensorboard):
    _, out_dir, _ = on_tensorboard
    events = events_of(out_dir)
    expected = expected_scalars(out_dir)
    logged = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert {tag for tag in logged if not tag.startswith("summary/")} == set(expected)
    for tag, points in expected.items():
        assert logged[tag] == [(step, np.float32(value)) for step, value in points], tag
    last = pd.read_csv(out_dir / "metrics.csv")["step"].iloc[-1]
    numbers, texts = expected_summary(out_dir)
    for name, value in numbers.items():
        assert logged[f"summary/{name}"] == [(last, np.float32(value))]
    for name, text in texts.items():
        assert events.Tensors(f"summary/{name}/text_summary")[0].tensor_proto.string_val[0].decode() == text
    shown = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "    max_lr: 0.05" in shown.splitlines()


def test_tensorboard_holds_the_settings(on_tensorboard):
    config, out_dir, _ = on_tensorboard
    from tensorboard.plugins.hparams import plugin_data_pb2

    content = events_of(out_dir).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert set(hparams) == set(flatten(config))
    assert hparams["max_lr"].number_value == 0.05
    assert hparams["model.name"].string_value == "resnet9"
    assert hparams["deterministic"].number_value == 1  # so the library stores truth values
    assert hparams["explain.indices"].string_value == "null"


def test_tensorboard_holds_the_figures(on_tensorboard, tmp_path):
    _, out_dir, _ = on_tensorboard
    events = events_of(out_dir)
    names = {path.stem for path in (out_dir / "figures").glob("*.png")}
    assert set(events.Tags()["images"]) == {f"figures/{name}" for name in names}
    assert names >= {"curves", "confusion"}
    (tmp_path / "logged.png").write_bytes(events.Images("figures/curves")[0].encoded_image_string)
    with Image.open(tmp_path / "logged.png") as logged, Image.open(out_dir / "figures" / "curves.png") as drawn:
        assert np.array_equal(np.asarray(logged), np.asarray(drawn.convert("RGB")))


def test_a_tracker_changes_no_number(on_tensorboard):
    _, out_dir, untracked = on_tensorboard
    for name in ("steps.csv", "predictions.csv"):
        assert (out_dir / name).read_bytes() == (untracked / name).read_bytes()


def test_tensorboard_continues_after_an_interruption(on_tensorboard, tmp_path):
    """A run that logged epoch 2 is resumed from epoch 1; its second epoch now has other values."""
    config, finished, _ = on_tensorboard
    out_dir = tmp_path / "run"
    shutil.copytree(finished, out_dir)
    metrics = (out_dir / "metrics.csv").read_text().splitlines(keepends=True)
    (out_dir / "metrics.csv").write_text("".join(metrics[:2]))
    with trackers.tracked(config, out_dir, lifecycle.state_after) as after_epoch:
        cells = metrics[2].split(",")
        (out_dir / "metrics.csv").write_text("".join([*metrics[:2], ",".join([*cells[:3], "7.5", *cells[4:]])]))
        after_epoch()
    logged = [(event.step, event.value) for event in events_of(out_dir).Scalars("train_loss")]
    first = pd.read_csv(out_dir / "metrics.csv").iloc[0]
    assert logged == [(first["step"], np.float32(first["train_loss"])), (int(cells[1]), 7.5)]


# --- MLflow --------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def on_mlflow(tmp_path_factory):
    """A completed and a diverged run in one store, in a folder whose name needs quoting."""
    needed("mlflow")
    folder = tmp_path_factory.mktemp("a folder")
    config = composed(*SHORT, "figures=true", "tracker=mlflow", f"tracker.store='{folder / 'my store'}'")
    run(config, folder / "run")
    with pytest.raises(DivergedError):
        run(changed(config, {"max_lr": 1e6, "epochs": 20, "figures": False}), folder / "diverged")
    return config, folder


def client_of(folder):
    with their_own_warnings():
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=f"sqlite:///{folder / 'my store' / 'mlflow.db'}")


def run_in(folder, name):
    return client_of(folder).get_run(json.loads((folder / name / "mlflow_run.json").read_text())["run_id"])


def history(folder, run_id, key):
    with their_own_warnings():
        return [(point.step, point.value) for point in client_of(folder).get_metric_history(run_id, key)]


def test_mlflow_holds_the_csvs(on_mlflow):
    config, folder = on_mlflow
    logged = run_in(folder, "run")
    assert (logged.info.status, logged.data.tags["summary.state"]) == ("FINISHED", "completed")
    assert logged.data.params == {key: "null" if v is None else str(v) for key, v in flatten(config).items()}
    expected = expected_scalars(folder / "run")
    assert {key for key in logged.data.metrics if not key.startswith("summary/")} == set(expected)
    for key, points in expected.items():
        assert history(folder, logged.info.run_id, key) == points, key
    numbers, texts = expected_summary(folder / "run")
    assert {key: value for key, value in logged.data.metrics.items() if key.startswith("summary/")} == {
        f"summary/{name}": value for name, value in numbers.items()
    }
    assert {name: logged.data.tags[f"summary.{name}"] for name in texts} == texts


def test_mlflow_holds_the_files(on_mlflow, tmp_path):
    _, folder = on_mlflow
    with their_own_warnings():
        local = Path(client_of(folder).download_artifacts(run_in(folder, "run").info.run_id, "", str(tmp_path)))
    names = ["config_resolved.yaml", "metrics.csv", "summary.csv"]
    names += [f"figures/{path.name}" for path in (folder / "run" / "figures").glob("*.png")]
    assert "figures/curves.png" in names
    assert sorted(path.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file()) == sorted(names)
    assert all((local / name).read_bytes() == (folder / "run" / name).read_bytes() for name in names)


def test_mlflow_knows_how_a_run_ended(on_mlflow):
    _, folder = on_mlflow
    logged = run_in(folder, "diverged")
    assert (logged.info.status, logged.data.tags["summary.state"]) == ("FAILED", "diverged")
    assert len(history(folder, logged.info.run_id, "steps/learning_rate")) == len(
        pd.read_csv(folder / "diverged" / "steps.csv")
    )


def test_mlflow_continues_after_an_interruption(on_mlflow):
    config, folder = on_mlflow
    before = run_in(folder, "run")
    with pytest.raises(KeyboardInterrupt), trackers.tracked(config, folder / "run", lifecycle.state_after):
        raise KeyboardInterrupt
    after = run_in(folder, "run")
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "KILLED")
    for key, points in expected_scalars(folder / "run").items():
        assert history(folder, after.info.run_id, key) == points


def test_a_resumed_run_keeps_its_tracker(on_tensorboard, on_mlflow):
    for out_dir in (on_tensorboard[1], on_mlflow[1] / "run"):
        kept = open_run(out_dir, completed=False, keeps_tracker=trackers.has_store).config.tracker
        assert kept == on_tensorboard[0].tracker or kept == on_mlflow[0].tracker
        assert open_run(out_dir).config.tracker.names == []
