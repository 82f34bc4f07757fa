"""``cifar-exp export`` against ONNX Runtime, torch.export, safetensors, and the run's own predictions."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
import torchvision
from composing import TINY, composed
from PIL import Image
from safetensors import safe_open

from cifar_exp.cli import export
from cifar_exp.cli.main import main
from cifar_exp.runner import run

ROOT = Path(__file__).parents[2]
NETWORK = "resnet18"
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on colour images of two classes, in ``run``, and its network in the three formats."""
    folder = tmp_path_factory.mktemp("export")
    generator = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 35)):
        for brightness, name in enumerate(("cat", "dog")):
            (folder / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 156, (32, 32, 3), dtype=np.uint8) + np.uint8(100 * brightness)
                Image.fromarray(pixels).save(folder / "data" / split / name / f"{number:02}.png")
    overrides = [text for text in TINY if not text.startswith(("model.", "data.", "batch_size", "report"))]
    own = ("data=image_folder", f"data.root={folder / 'data'}", "model=torchvision", f"model.architecture={NETWORK}")
    run(composed(*overrides, *own, "explain.images=0", "precision=float32", "batch_size=12"), folder / "run")
    for kind, suffix in SUFFIXES.items():
        out = str(folder / "new" / f"model{suffix}")
        assert main(["export", str(folder / "run"), "--format", kind, "--out", out]) == 0
    return folder


@pytest.fixture(scope="module")
def run_dir(folder):
    return folder / "run"


def by_onnx(path, images):
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {"images": images})[0], session.get_modelmeta().custom_metadata_map


def by_torch(path, images):
    files = {"metadata.json": ""}
    program = torch.export.load(path, extra_files=files)
    with torch.no_grad():
        return program.module()(torch.from_numpy(images)).numpy(), json.loads(files["metadata.json"])


def by_safetensors(path, images):
    with safe_open(path, "pt") as file:
        metadata, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    network = torchvision.models.get_model(json.loads(metadata["model"])["architecture"], num_classes=2).eval()
    network.load_state_dict(state)
    mean, std = (torch.tensor(json.loads(metadata[key])).view(-1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        return network((torch.from_numpy(images) / 255 - mean) / std).softmax(1).numpy(), metadata


@pytest.mark.parametrize("read", [by_onnx, by_torch, by_safetensors])
def test_the_file_has_the_runs_predictions_row_by_row(folder, run_dir, read):
    path = folder / "new" / f"model{SUFFIXES[read.__name__.removeprefix('by_')]}"
    recorded = pd.read_csv(run_dir / "predictions.csv")
    pixels = [np.asarray(Image.open(folder / "data" / source)) for source in recorded["source"]]
    images = np.stack(pixels).transpose(0, 3, 1, 2)
    probabilities, metadata = read(path, images)
    assert [json.loads(metadata["class_names"])[row] for row in probabilities.argmax(1)] == list(recorded["prediction"])
    np.testing.assert_allclose(probabilities.max(1), recorded["confidence"], atol=1e-4)
    np.testing.assert_allclose(read(path, images[:1])[0], probabilities[:1], atol=1e-5)
    status = json.loads((run_dir / "status.json").read_text())
    assert (metadata["config_hash"], metadata["image_size"]) == (status["config_hash"], "32")
    if read is by_onnx:
        onnx.checker.check_model(onnx.load(path), full_check=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("state", "not completed (state: failed)"),
        ("checkpoint", "last.pt: no such checkpoint"),
        ("extra", "requires an optional dependency (onnx, onnxscript, onnxruntime): pip install 'cifar-exp[export]'"),
        ("out", "already exists"),
        ("parent", "cannot be created: /dev/null is not a writable folder"),
        ("target", "not an allowed target"),
    ],
)
def test_a_wrong_request_is_refused_in_a_line(run_dir, tmp_path, capsys, monkeypatch, wrong, message):
    copied, out = tmp_path / "run", tmp_path / "out.onnx"
    shutil.copytree(run_dir, copied)
    if wrong == "state":
        (copied / "status.json").write_text((copied / "status.json").read_text().replace("completed", "failed", 1))
    if wrong == "checkpoint":
        (copied / "checkpoints" / "last.pt").unlink()
    if wrong == "extra":
        monkeypatch.setattr("cifar_exp.cli.export.find_spec", lambda name: None)
    if wrong == "out":
        out.touch()
    if wrong == "parent":
        out = Path("/dev/null/folder/out.onnx")
        monkeypatch.setattr("cifar_exp.cli.export.load_network", None)  # refused before the network is loaded
    if wrong == "target":
        config = (
            (copied / "config_resolved.yaml").read_text().replace("cifar_exp.models.torchvision_network", "os.system")
        )
        (copied / "config_resolved.yaml").write_text(config)
    assert main(["export", str(copied), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert wrong == "out" or not out.exists()


def test_a_file_that_computes_something_else_is_not_written(run_dir, tmp_path, capsys, monkeypatch):
    wrong = (".x", (), lambda *_: (b"", lambda images: torch.full((len(images), 2), 0.5)))
    monkeypatch.setitem(export.FORMATS, "torch", wrong)
    (tmp_path / "run").mkdir()
    shutil.copytree(run_dir, tmp_path / "run", dirs_exist_ok=True)
    (tmp_path / "run" / "report_images.npz").unlink()  # then on noise
    assert main(["export", str(tmp_path / "run"), "--format", "torch", "--out", str(tmp_path / "out")]) == 1
    assert "Not written: on 64 noise images" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_the_code_of_the_page_runs_as_it_stands(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder / "new")
    text = (ROOT / "docs" / "export.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    recorded = pd.read_csv(folder / "run" / "predictions.csv").iloc[0]
    shutil.copy(folder / "data" / recorded["source"], "photo.png")
    namespace = {}
    for block in blocks:
        exec(compile(block, "docs/export.md", "exec"), namespace)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in printed] == [recorded["prediction"]] * 3
    assert [float(line[1]) for line in printed] == pytest.approx([recorded["confidence"]] * 3, abs=1e-4)


def test_the_check_is_printed(run_dir, tmp_path, capsys):
    assert main(["export", str(run_dir), "--format", "safetensors", "--out", str(tmp_path / "x")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"Checked: on \d+ test images of the run, no predictions differ", printed)
    assert "Input: uint8 images (N, 3, 32, 32), 0 to 255" in printed
