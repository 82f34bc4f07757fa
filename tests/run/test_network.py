"""Networks of a user's own: what is refused before training, and what is trained and explained all the same."""

import json
import logging
import random

import numpy as np
import pytest
import torch
from composing import TINY, composed

from cifar_exp import stages
from cifar_exp.build import build
from cifar_exp.cli.evaluate import evaluate_run
from cifar_exp.config.parse import changed
from cifar_exp.errors import RequestError
from cifar_exp.explain.layers import ExplainedLayers
from cifar_exp.run_dir.saved_run import open_run
from cifar_exp.run_dir.tables import read_table
from cifar_exp.runner import run

SMALL = (*TINY, "epochs=1", "data.limit_train=70", "data.limit_test=20", "batch_size=32", "trust=[awkward_networks]")


def config_of(name, *overrides, **options):
    node = {"name": "mine", "_target_": f"awkward_networks.{name}", **options}
    return changed(composed(*SMALL, *overrides), {"model": node})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Tuple", r"must return \(N, classes\), returned a tuple in training mode; the data has 10 classes"),
        ("AuxInTraining", r"must return \(N, classes\), returned a Outputs in training mode"),
        ("Dict", r"must return \(N, classes\), returned a dict"),
        ("Nothing", r"must return \(N, classes\), returned None"),
        ("WrongClasses", r"returned \(N, 7\) in training mode; the data has 10 classes"),
        ("Spatial", r"returned \(N, 10, 1, 1\)"),
        ("Detached", r"the logits in training mode have no gradient"),
        ("Raises", r"in training mode: the model cannot process 32x32x1 images .*KeyError: 'of its own'"),
        ("Frozen", r"none of its \d+ parameter values requires a gradient"),
        ("NoParameters", r"none of its 0 parameter values requires a gradient"),
        ("InitializeThatFails", r"initialize\(images\) fails.*normalized training images.*KeyError: 'of its own'"),
        ("create_model", r"fails with the arguments num_classes=10.*unexpected keyword argument 'in_channels'.*always "
         r"passes num_classes, in_channels.*use a function that accepts these"),
        ("no_module", r"must return a torch\.nn\.Module, returned a NoneType"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_trained_is_refused_before_training(name, message):
    with pytest.raises(RequestError, match=message):
        build(config_of(name))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")  # of the reentrant checkpoint
@pytest.mark.parametrize(
    ("name", "layers", "said"),
    [
        (
            "View",
            {"layer1", "layer2"},
            "memory_format=auto: contiguous, as channels_last fails: RuntimeError: view size is not",
        ),
        ("FrozenBackbone", {"layer1", "layer2"}, ""),
        ("Lazy", {"layer1", "layer2"}, ""),
        ("TupleLayer", {"layer2"}, "leaves out layer1: it returns a tuple"),
        ("UncalledLayer", {"layer1", "layer2"}, "leaves out layer3: it is never called"),
        ("ChannelsLastFeatures", {"layer1"}, "leaves out layer2: its output shape is (1, 16, 16, 24): channels last"),
        ("Reentrant", {"layer2"}, "leaves out layer1: it has no gradient"),
        ("NoLayerNames", {"body"}, "Grad-CAM explains body (16x16), the last feature map of at least 2x2"),
        ("OldWeightNorm", {"layer1", "layer2"}, ""),
        ("InitializeOfItsOwn", {"layer1", "layer2"}, "initialize is not called: it does not take one argument"),
    ],
)
def test_an_awkward_network_is_trained_and_explained(name, layers, said, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("cifar_exp"), "propagate", True)
    if name == "View":  # as on a machine where auto chooses channels_last
        monkeypatch.setattr("cifar_exp.compute.device.resolve_memory_format", lambda *_: torch.channels_last)
    with caplog.at_level(logging.INFO, logger="cifar_exp"):
        row = run(config_of(name), tmp_path / "run")
    assert said in caplog.text
    assert row["state"] == "completed"
    assert len(read_table(tmp_path / "run" / "predictions.csv")) == 20
    maps = read_table(tmp_path / "run" / "gradcam.csv")
    assert set(maps["layer"]) == layers
    assert (maps["map_height"] == maps["map_width"]).all()
    note = json.loads((tmp_path / "run" / "status.json").read_text())["gradcam"]
    assert (note is not None) == (name == "NoLayerNames")


def test_a_layout_that_was_asked_for_is_named_in_the_message():
    with pytest.raises(RequestError, match=r"memory_format=channels_last.*view.*memory_format=contiguous works"):
        build(config_of("View", "memory_format=channels_last"))


def test_a_network_without_a_feature_map_is_reported_in_log_and_page(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("cifar_exp"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="cifar_exp"):
        run(config_of("NoLayerNames", "report=true", stride=32), tmp_path / "run")
    said = "No Grad-CAM: the model has no feature map (N, C, h, w) of at least 2x2."
    assert said in caplog.text
    assert said in (tmp_path / "run" / "report.html").read_text()


def test_a_network_that_changes_its_input_has_the_figures_of_one_that_copies_it(tmp_path):
    both = []
    for name in ("InPlaceInput", "CopiedInput"):
        config = config_of(name, "evaluation.test_time_augmentation=mirror_translate")
        row = run(config, tmp_path / name)
        both.append((row["test_loss"], row["test_accuracy_tta"], read_table(tmp_path / name / "gradcam.csv")))
    assert both[0][:2] == both[1][:2]
    assert both[0][2].equals(both[1][2])


def test_the_trial_leaves_no_trace():
    def drawn(parts):
        state = {key: value.clone() for key, value in parts.learner.model.state_dict().items()}
        return state, torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002

    config = composed(*TINY)
    state, *draws = drawn(build(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cifar_exp.network.Trial.with_working_layout", lambda self, _: self)
        patch.setattr("cifar_exp.network.choose_layers", lambda *_: ExplainedLayers([]))
        untried, *others = drawn(build(config))
    assert all(torch.equal(state[key], untried[key]) for key in state)
    assert torch.equal(draws[0], others[0])
    assert (draws[1] == others[1]).all()
    assert draws[2] == others[2]
    assert build(config).learner.optimizer.state_dict()["state"] == {}


def test_a_failure_after_training_keeps_the_results_and_a_run_that_can_be_evaluated(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise MemoryError("no room")

    for name in (
        "stages.explain",
        "drawing.draw_curves",
        "drawing.draw_confusion",
        "drawing.draw_misclassified",
        "drawing.draw_augmented",
    ):
        monkeypatch.setattr(f"cifar_exp.{name}", fails)
    monkeypatch.setattr("cifar_exp.reports.run_page.live.kept_images.write_images", fails)
    path = tmp_path / "run"
    row = run(composed(*SMALL, "figures=true", "report=true"), path)
    assert len(read_table(path / "predictions.csv")) == 20
    assert read_table(path / "summary.csv")["test_accuracy"][0] == row["test_accuracy"]
    assert read_table(path / "gradcam.csv").empty
    status = json.loads((path / "status.json").read_text())
    assert status["state"] == "completed"
    assert status["warnings"][0] == "Grad-CAM could not be made: MemoryError: no room"
    assert "Traceback (most recent call last)" in (path / "run.log").read_text()
    assert "Grad-CAM could not be made: MemoryError: no room" in (path / "report.html").read_text()
    assert evaluate_run(open_run(path), ["explain.images=0"], None, tmp_path / "again")["changed_predictions"] == 0
    assert evaluate_run(open_run(path), ["explain.images=1"], None, tmp_path / "fails")["changed_predictions"] == 0
    assert "MemoryError" in (tmp_path / "fails" / "run.log").read_text()


def test_an_interruption_after_the_results_leaves_them_and_resume_can_leave_the_maps_out(tmp_path, monkeypatch, capsys):
    from cifar_exp.cli.main import main

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(stages, "explain_images", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(composed(*SMALL), path)
    kept = read_table(path / "summary.csv").iloc[0]
    assert (kept["state"], len(read_table(path / "predictions.csv"))) == ("interrupted", 20)
    assert main(["resume", str(path), "explain.images=0"]) == 0
    assert read_table(path / "gradcam.csv").empty
    assert read_table(path / "summary.csv")["test_loss"][0] == kept["test_loss"]
    assert main(["resume", str(path), "explain.images=0"]) == 0  # complete
    assert main(["resume", str(path), "epochs=3"]) == 2
    assert "epochs=3: the schedule was planned for 1" in capsys.readouterr().err
