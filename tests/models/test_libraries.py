"""Networks of torchvision and timm by name, against those that the libraries build themselves."""

import logging
import subprocess
import sys
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from composing import TINY, composed
from PIL import Image
from runs import measured, state_of
from safetensors.torch import save_file

from cifar_exp import models
from cifar_exp.build import build
from cifar_exp.cli.main import main
from cifar_exp.errors import RequestError
from cifar_exp.explain.layers import choose_layers
from cifar_exp.models.construct import make_network
from cifar_exp.models.libraries import check_name, pretrained_state
from cifar_exp.run_dir import checkpoint
from cifar_exp.runner import run
from cifar_exp.training.initial_weights import load_initial_weights

SHUFFLENET = "shufflenet_v2_x0_5"
OWN = {
    "torchvision": lambda name, **options: torchvision.models.get_model(name, **options),
    "timm": timm.create_model,
}


def node_of(library, name, *more):
    return composed(f"model={library}", f"model.architecture={name}", *more).model


def network_of(library, name, *more, classes=7, channels=3):
    return make_network(node_of(library, name, *more), num_classes=classes, in_channels=channels).eval()


@pytest.mark.parametrize(
    ("library", "name", "options"),
    [
        ("torchvision", SHUFFLENET, {}),
        ("torchvision", "googlenet", {"aux_logits": False, "init_weights": False}),
        ("torchvision", "regnet_y_400mf", {}),
        ("timm", "convnext_atto", {}),
        ("timm", "vit_tiny_patch16_224", {"img_size": 32}),
    ],
)
def test_a_network_computes_what_the_librarys_own_does(library, name, options):
    theirs = OWN[library](name, num_classes=7, **options).eval()
    ours = network_of(library, name)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))
        assert network_of(library, name, channels=1)(images[:, :1]).shape == (2, 7)


def test_the_cifar_stem_makes_torchvisions_resnet_the_shipped_one():
    networks = []
    for make in (
        lambda: models.resnet18(num_classes=7, in_channels=1),
        lambda: network_of("torchvision", "resnet18", "model.stem=cifar", channels=1),
    ):
        torch.manual_seed(0)
        networks.append(make().eval())
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in networks]
    assert shapes[0] == shapes[1]
    networks[1].load_state_dict(networks[0].state_dict())
    images = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(networks[0](images), networks[1](images))
        deep = network_of("timm", "resnet10t", "model.stem=cifar")
        assert deep.maxpool(deep.conv1(torch.randn(1, 3, 32, 32))).shape[2:] == (32, 32)
    with pytest.raises(RequestError, match=r"model\.stem=cifar: convnext_atto does not start with"):
        network_of("timm", "convnext_atto", "model.stem=cifar")


@pytest.mark.parametrize(
    ("library", "name", "message"),
    [
        ("torchvision", "mobilnet_v3_smal", "the nearest: mobilenet_v3_small"),
        ("torchvision", "convnext_atto", "model=timm has it"),
        ("torchvision", "fasterrcnn_resnet50_fpn", "no such classification network"),
        ("timm", "convnext_ato", "the nearest: convnext_atto"),
        ("timm", "hf-hub:timm/convnext_atto", "no such classification network"),
    ],
)
def test_an_unknown_name_lists_the_nearest(library, name, message):
    with pytest.raises(RequestError, match=message):
        check_name(library, name)


@pytest.mark.parametrize("name", ["hf-hub:a/b", "local-dir:/tmp", "../x", ""])
def test_an_architecture_cannot_be_an_address_or_a_path(name):
    with pytest.raises(RequestError, match=r"model\.architecture="):
        composed("model=timm", f"model.architecture='{name}'")


def test_a_network_that_cannot_be_built_for_the_size_is_refused():
    with pytest.raises(RequestError, match="maxvit_t: cannot be built for images of 32x32"):
        network_of("torchvision", "maxvit_t")
    own = [text for text in TINY if not text.startswith("model.")]
    with pytest.raises(RequestError, match=r"model\.architecture=inception_v3, in training mode: .* cannot process"):
        build(composed(*own, "model=torchvision", "model.architecture=inception_v3"))


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("cifar_exp.models.libraries.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'cifar-exp\[timm\]'"):
        check_name("timm", "convnext_atto")


@pytest.fixture(scope="module")
def published():
    """A network with a thousand classes of colour images, whose statistics of batch normalization are its own."""
    torch.manual_seed(1)
    network = torchvision.models.get_model(SHUFFLENET)
    network(torch.randn(4, 3, 32, 32))
    return network.eval()


@pytest.mark.parametrize("kind", ["safetensors", "pt", "wrapped", "parameters", "pretrained"])
def test_the_weights_are_those_of_the_file_but_for_the_head(published, kind, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    state = published.state_dict()
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "parameters":
        torch.save(dict(published.state_dict(keep_vars=True)), path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if kind == "wrapped" else state, path)
    monkeypatch.setattr(torchvision.models._api.WeightsEnum, "get_state_dict", lambda *a, **k: dict(state))
    source = "model.pretrained=true" if kind == "pretrained" else f"model.weights={path}"
    node = node_of("torchvision", SHUFFLENET, source)
    network = make_network(node, num_classes=7, in_channels=1)
    head = network.fc.weight.detach().clone()
    load_initial_weights(network, node, 7, 1)
    assert torch.equal(network.fc.weight, head)
    gray = torch.randn(2, 1, 32, 32)
    network.eval().fc = published.fc
    with torch.no_grad():  # colour images of three equal channels are gray ones
        torch.testing.assert_close(network(gray), published(gray.repeat(1, 3, 1, 1)), atol=1e-4, rtol=1e-4)
    assert "but fc.bias, fc.weight new" in caplog.text


def test_as_many_classes_keep_the_head_and_the_cifar_stem_is_new(tmp_path):
    theirs = timm.create_model("resnet10t", num_classes=5)
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    node = node_of("timm", "resnet10t", f"model.weights={tmp_path / 'w.pt'}", "model.stem=cifar")
    network = make_network(node, num_classes=5, in_channels=3)
    load_initial_weights(network, node, 5, 3)
    assert torch.equal(network.fc.weight, theirs.fc.weight)
    assert torch.equal(network.conv1[0].weight, theirs.conv1[0].weight)  # the stride has no weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state | {"conv5.0.weight": torch.zeros(3, 4)}, "size mismatch for conv5.0.weight"),
        (
            lambda state: {key: state[key] for key in list(state)[:-20]},
            'Missing key(s) in state_dict: "stage4.',
        ),
        (lambda state: state | {"aux.weight": torch.zeros(1)}, 'Unexpected key(s) in state_dict: "aux.weight"'),
        (
            lambda state: state | {"conv5.0.weight": state["conv5.0.weight"] * torch.nan},
            "values that are not finite: conv5.0.weight",
        ),
        (lambda state: {"model": 3}, "holds no weights"),
        (lambda state: {"args": pytest}, "not a checkpoint of tensors and plain values"),
    ],
)
def test_weights_that_do_not_fit_are_named(published, change, message, tmp_path):
    path = tmp_path / "w.pt"
    content = change(dict(published.state_dict()))
    if "args" in content:
        path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    else:
        torch.save(content, path)
    node = node_of("torchvision", SHUFFLENET, f"model.weights={path}")
    with pytest.raises(RequestError) as error:
        load_initial_weights(make_network(node, num_classes=7, in_channels=3), node, 7, 3)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_failed_download_is_one_line(library, monkeypatch):
    def refuse(*_arguments, **_options):
        raise URLError("no\nnetwork")

    monkeypatch.setattr(torchvision.models._api.WeightsEnum, "get_state_dict", refuse)
    monkeypatch.setattr(timm, "create_model", refuse)
    name = {"torchvision": SHUFFLENET, "timm": "convnext_atto"}[library]
    with pytest.raises(RequestError, match=f"{library} cannot provide the weights of {name}.*no network") as error:
        pretrained_state(library, name, 3, 32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("library", "name", "layer"),
    [("torchvision", SHUFFLENET, "conv5"), ("timm", "vit_tiny_patch16_224", None), ("timm", "levit_128s", "stem")],
)
def test_gradcam_finds_the_last_feature_map(library, name, layer):
    network, explain = network_of(library, name, "data.image_size=64"), composed().explain
    found = choose_layers(network, torch.randn(1, 3, 64, 64), explain)
    assert [one.name for one in found.layers] == ([layer] if layer else [])
    assert "the last feature map" in found.note if layer else "tokens instead of feature maps" in found.note


@pytest.fixture(scope="module")
def run_from_weights(published, tmp_path_factory):
    """A run that started from a file, which exists no longer."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(published.state_dict(), folder / "w.pt")
    overrides = [text for text in TINY if "model." not in text]
    config = composed(
        *overrides,
        "epochs=1",
        "model=torchvision",
        f"model.architecture={SHUFFLENET}",
        f"model.weights={folder / 'w.pt'}",
    )
    run(config, folder / "run")
    kept = checkpoint.load(folder / "run" / "checkpoints" / "initial.pt", torch.device("cpu"))["model"]
    assert torch.equal(kept["stage2.0.branch1.0.weight"], published.state_dict()["stage2.0.branch1.0.weight"])
    (folder / "w.pt").unlink()
    return folder / "run", config


def test_a_run_is_used_without_the_file_that_it_started_from(run_from_weights, tmp_path):
    run_dir, _ = run_from_weights
    out = str(tmp_path / "again")
    assert main(["reproduce", str(run_dir), "--out", out]) == 0  # to the last bit
    assert main(["evaluate", str(run_dir), "--out", str(tmp_path / "evaluated")]) == 0
    image = tmp_path / "x.png"
    Image.new("L", (40, 40)).save(image)
    assert main(["predict", str(run_dir), str(image), "--out", str(tmp_path / "predicted")]) == 0


def test_a_run_is_resumed_without_the_file_that_it_started_from(run_from_weights, published, tmp_path, at_step):
    run_dir, config = run_from_weights
    torch.save(published.state_dict(), config.model.weights)
    at_step(2)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "run")
    (run_dir.parent / "w.pt").unlink()
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert state_of(tmp_path / "run")["state"] == "completed"
    assert measured(tmp_path / "run")["metrics.csv"] == measured(run_dir)["metrics.csv"]


def test_the_command_line_refuses_before_it_writes(tmp_path):
    command = [sys.executable, "-m", "cifar_exp", "model=torchvision", "model.weights=nowhere.pt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (2, f"cifar-exp: model.weights={tmp_path}/nowhere.pt: no such file\n")
    assert not list(tmp_path.iterdir())
