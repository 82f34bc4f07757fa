"""A finished run in use, from Python and by ``cifar-exp predict``: against Captum, PyTorch, pandas, its own tables."""

import csv
import io
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from captum.attr import LayerGradCam
from composing import TINY, composed
from PIL import Image

import cifar_exp
from cifar_exp import data
from cifar_exp.build import build
from cifar_exp.cli.main import main
from cifar_exp.errors import RequestError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "a run"
    cifar_exp.run(composed(*TINY, "explain.images=0", "name=0010"), path)
    return path


@pytest.fixture(scope="module")
def test_images(run_dir):
    """The test images of the run, (N, 32, 32, 1)."""
    return data.load(cifar_exp.load_run(run_dir).config.data).test.images


@pytest.fixture(scope="module")
def files(test_images, tmp_path_factory):
    """A folder with the test images as gray PNG files, and a file that is no image."""
    folder = tmp_path_factory.mktemp("files")
    for number, image in enumerate(test_images):
        Image.fromarray(image[:, :, 0]).save(folder / f"{number:03}.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_the_import_is_cheap_and_loads_nothing_heavy():
    script = (
        "import sys, time; before = time.process_time(); import cifar_exp; print(time.process_time() - before < 0.1, "
        "*({'torch', 'numpy', 'pandas', 'hydra'} & set(sys.modules)), sorted(set(cifar_exp.__all__) - {'__version__'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True ['RequestError', 'compose', 'load_run', 'read_runs', 'run']\n"


def test_the_code_of_the_page_runs_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 4
    namespace = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), namespace)


def test_composing_gives_the_config_of_the_command_line(tmp_path):
    config = cifar_exp.compose(TINY)
    assert (config, config.model.width) == (composed(*TINY), 4)
    with pytest.raises(cifar_exp.RequestError, match="epohcs"):
        cifar_exp.compose(["epohcs=1"])


def test_predictions_are_the_runs_own_row_by_row(run_dir, test_images, files):
    run = cifar_exp.load_run(run_dir)
    recorded = pd.read_csv(run_dir / "predictions.csv", dtype={"prediction": str})
    paths = sorted(files.glob("*.png"))
    for images in (test_images, test_images[..., 0], paths, [Image.open(path) for path in paths]):
        found = run.predict(images)
        assert found["prediction"].tolist() == recorded["prediction"].tolist()
        assert found["confidence"].to_numpy() == pytest.approx(recorded["confidence"], abs=1e-6)


def test_probabilities_and_maps_are_those_of_pytorch_and_captum(run_dir, test_images):
    run = cifar_exp.load_run(run_dir)
    state = torch.load(run_dir / "checkpoints" / "last.pt", weights_only=True)
    config = run.config
    model = build(config).learner.model
    model.load_state_dict(state["model"])
    model.eval().float()
    inputs = torch.from_numpy(test_images[:6].transpose(0, 3, 1, 2)).float() / 255
    inputs = (inputs - torch.tensor(state["mean"]).view(1, -1, 1, 1)) / torch.tensor(state["std"]).view(1, -1, 1, 1)
    with torch.no_grad():
        expected = model(inputs).softmax(1)
    found = run.probabilities(test_images[:6])
    tolerance = 1e-5 if run.network.compute.precision is torch.float32 else 2e-2
    assert found.to_numpy() == pytest.approx(expected.numpy(), abs=tolerance)
    assert list(found.columns) == state["class_names"]

    classes = ["3"] * 6
    maps = LayerGradCam(model, model.layer2).attribute(inputs, target=3).relu()
    upsampled = torch.nn.functional.interpolate(maps, (32, 32), mode="bilinear").detach().squeeze(1)
    assert run.gradcam(test_images[:6], classes, "layer2") == pytest.approx(upsampled.numpy(), rel=1e-3, abs=1e-5)
    assert run.gradcam(test_images[:6]).shape == (6, 32, 32)
    assert run.gradcam(test_images[:0]).shape == (0, 32, 32)


def test_the_table_of_runs_is_that_of_pandas_with_the_types_of_the_config(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "2")
    status = (run_dir / "status.json").read_text().replace("completed", "failed", 1)
    (tmp_path / "10").mkdir()
    (tmp_path / "10" / "status.json").write_text(status)
    runs = cifar_exp.read_runs(tmp_path, run_dir)
    assert len(runs) == 3
    assert sorted(Path(path).name for path in runs["path"]) == ["10", "2", "a run"]
    row = runs.set_index("path").loc[str(run_dir)]
    summary = pd.read_csv(run_dir / "summary.csv").iloc[0]
    measured = [name for name, value in summary.items() if isinstance(value, float) and not name.startswith("config")]
    assert [row[name] for name in measured] == pytest.approx(summary[measured].tolist(), nan_ok=True)
    config = yaml.safe_load((run_dir / "config_resolved.yaml").read_text())
    for key in ("epochs", "max_lr", "figures", "name", "label_smoothing", "device"):
        assert row[f"config.{key}"] == config[key]
    assert row["config.name"] == "0010"
    assert row["config.model.width"] == 4
    assert pd.isna(row["config.augment.low_resolution.size"])
    assert str(runs["started_at"].dtype).endswith("UTC]")
    failed = runs.set_index("path").loc[str(tmp_path / "10")]
    assert (failed["state"], failed["epochs_completed"]) == ("failed", 2)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda run: run.predict(np.zeros((2, 8, 8, 3))), "uint8"),
        (lambda run: run.predict(["nowhere.png"]), "nowhere.png"),
        (lambda run: run.gradcam(np.zeros((1, 32, 32), np.uint8), ["cat"]), "no class 'cat'"),
        (lambda run: run.gradcam(np.zeros((1, 32, 32), np.uint8), ["1", "2"]), "2 classes for 1 images"),
        (
            lambda run: run.gradcam(np.zeros((1, 32, 32), np.uint8), layer="head"),
            "'head' cannot be explained: no such layer",
        ),
        (lambda run: run.table("metric"), "it has calibration, confusion, "),
        (lambda run: cifar_exp.load_run(run.path.parent), "not a run directory"),
        (lambda run: cifar_exp.load_run(run.path, device="cuda:99").model(), "cuda:99"),
    ],
)
def test_a_wrong_use_is_refused(run_dir, use, message):
    with pytest.raises(RequestError, match=message):
        use(cifar_exp.load_run(run_dir))


@pytest.mark.parametrize("way", ["folder", "files", "list", "list for xargs -0"])
def test_predict_gives_the_runs_own_predictions(run_dir, files, tmp_path, monkeypatch, capsys, way):
    paths = sorted(map(str, files.glob("*.png")))
    arguments = {"folder": [str(files)], "files": paths}.get(way, ["-"])
    end = "\n" if way == "list" else "\0"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("".join(path + end for path in paths).encode())))
    assert main(["predict", str(run_dir), *arguments, "--out", str(tmp_path / "out"), "--probabilities"]) == 0
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (run_dir / "predictions.csv").open() as file:
        recorded = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == paths
    for key in ("prediction", "confidence"):  # as text: to the last bit
        assert [row[key] for row in rows] == [row[key] for row in recorded]
    for row in rows:
        top = [row["prediction"], *(row[f"top{rank}"] for rank in range(2, 6))]
        values = {name.removeprefix("probability."): float(row[name]) for name in row if name.startswith("prob")}
        assert (len(values), sum(values.values())) == (10, pytest.approx(1, abs=1e-5))
        assert [values[name] for name in top] == sorted(values.values(), reverse=True)[:5]
    printed = capsys.readouterr().out
    assert "100 images" in printed
    assert "... and 80 more" in printed


def test_unreadable_images_are_skipped_and_the_others_predicted(run_dir, files, tmp_path, capsys):
    folder = tmp_path / "mixed"
    shutil.copytree(files, folder, ignore=lambda _, names: [name for name in names if name > "005.png"])
    (folder / "000.png").write_bytes((folder / "000.png").read_bytes()[:90])
    (folder / "001.png").write_bytes(png_header(50_000, 50_000))
    assert main(["predict", str(run_dir), str(folder), "--out", str(tmp_path / "out"), "--explain"]) == 1
    printed = capsys.readouterr().out
    assert re.search("Skipped .*000.png: damaged image", printed)
    assert re.search("Skipped .*001.png: .*(50000x50000|2500000000) pixels", printed)
    found = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype=str)
    recorded = pd.read_csv(run_dir / "predictions.csv", dtype=str)["prediction"]
    assert found["source"].str[-7:].tolist() == ["002.png", "003.png", "004.png", "005.png"]
    assert found["prediction"].tolist() == recorded[2:6].tolist()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "predictions.csv",
        "contact_sheet.png",
        "gradcam.png",
    }


def png_header(width, height):
    """A PNG file that claims a size and holds no pixels."""
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(b""), b"IEND": b""}
    chunks = [struct.pack(">I", len(data)) + name + data for name, data in parts.items()]
    checked = [chunk + struct.pack(">I", zlib.crc32(chunk[4:])) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(checked)


@pytest.mark.parametrize("wrong", ["state", "checkpoint", "folder", "missing", "unreadable", "weights"])
def test_a_wrong_request_is_refused_before_anything_is_written(run_dir, files, tmp_path, capsys, wrong):
    run, image = tmp_path / "run", str(files / "000.png")
    shutil.copytree(run_dir, run)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("")
    if wrong == "state":
        (run / "status.json").write_text((run / "status.json").read_text().replace("completed", "failed", 1))
    if wrong == "checkpoint":
        (run / "checkpoints" / "last.pt").unlink()
    if wrong == "weights":
        config = (run / "config_resolved.yaml").read_text().replace("width: 4", "width: 8")
        (run / "config_resolved.yaml").write_text(config)
    path = {"folder": tmp_path / "empty", "missing": "nowhere.png", "unreadable": tmp_path / "empty" / "notes.txt"}
    message = {
        "state": "not completed (state: failed)",
        "checkpoint": "last.pt: no such checkpoint",
        "folder": "holds no images (of 1 file)",
        "missing": "nowhere.png: there is no such file or folder",
        "unreadable": "none of 1 file is an image that can be read",
        "weights": "does not fit the config's network",
    }[wrong]
    assert main(["predict", str(run), str(path.get(wrong, image)), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) <= 2
    assert not (tmp_path / "out").exists()
