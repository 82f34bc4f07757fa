"""Grad-CAM against Captum's class and by hand; deletion against a network that can be read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cifar_exp import models
from cifar_exp.compute.device import Compute
from cifar_exp.config.schema import ExplainConfig
from cifar_exp.data.normalize import Normalizer, Statistics
from cifar_exp.errors import RequestError
from cifar_exp.explain.gradcam import Explainer, explain, gradcam_rows
from cifar_exp.explain.layers import ExplainedLayers, LayerMap, choose_layers

CPU = Compute(torch.device("cpu"), torch.float32, torch.contiguous_format)
NORMALIZE = Normalizer(Statistics((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)), CPU)


def images(count: int = 3, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return models.resnet18(num_classes=10, in_channels=3).eval()


def chosen(model: nn.Module, named: list[str] | None = None, **changes: object) -> ExplainedLayers:
    """``choose_layers`` for images of 32 x 32."""
    node = ExplainConfig(images=1, layers=named, minimum_map=1)
    return choose_layers(model, torch.zeros(1, 3, 32, 32), replace(node, **changes))


def explained(model, pixels, indices, targets, layers, *, seed=0, batch_size=8):
    """``explain`` on the CPU in float32."""
    return explain(Explainer(model, CPU, NORMALIZE, batch_size, "blur"), pixels, indices, targets, layers, seed)


def by_hand(model: nn.Module, layer: str, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Selvaraju et al. 2017, equations 1 and 2 before the ReLU: mean gradients weigh the activations."""
    kept = {}
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.update(out=out))
    logits = model(inputs)
    handle.remove()
    gradients = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), kept["out"])[0]
    return (gradients.mean((2, 3), keepdim=True) * kept["out"]).sum(1).detach()


def test_maps_equal_gradcam_by_hand():
    model, pixels = resnet(), images()
    layers = chosen(model).layers
    assert layers == [
        LayerMap("layer1", 32, 32),
        LayerMap("layer2", 16, 16),
        LayerMap("layer3", 8, 8),
        LayerMap("layer4", 4, 4),
    ]
    targets = {"predicted": np.array([1, 2, 3]), "true": np.array([4, 5, 6])}
    found = explained(model, pixels, np.arange(3), targets, layers)
    assert len(found) == 3 * 4 * 2
    inputs = NORMALIZE(torch.from_numpy(pixels))
    for cam in found:
        wanted = torch.from_numpy(targets[cam.target])
        expected = by_hand(model, cam.layer.name, inputs, wanted)[cam.index]
        np.testing.assert_allclose(cam.coarse, expected.numpy(), atol=1e-5)
        upsampled = F.interpolate(expected.relu()[None, None], (32, 32), mode="bilinear", align_corners=False)[0, 0]
        np.testing.assert_allclose(cam.heat, upsampled.numpy(), atol=1e-5)


def test_maps_of_nested_layers_equal_gradcam_by_hand():
    model, pixels = resnet(), images()
    names, targets = ["layer1.1", "layer2.0.conv1"], np.array([1, 5, 9])
    found = explained(model, pixels, np.arange(3), {"true": targets}, chosen(model, names).layers)
    for cam in found:
        expected = by_hand(model, cam.layer.name, NORMALIZE(torch.from_numpy(pixels)), torch.from_numpy(targets))
        np.testing.assert_allclose(cam.coarse, expected[cam.index].numpy(), atol=1e-5)


def test_batches_hold_no_more_images_than_they_may_and_change_no_map():
    model, sizes = resnet(), []
    model.register_forward_hook(lambda _m, inputs, _o: sizes.append(len(inputs[0])))
    targets = {"predicted": np.array([1, 2, 3]), "true": np.array([4, 5, 6])}
    layers = [LayerMap("layer2", 16, 16), LayerMap("layer3", 8, 8)]
    parts = explained(model, images(), np.arange(3), targets, layers, batch_size=2)
    assert max(sizes) == 2
    whole = explained(model, images(), np.arange(3), targets, layers, batch_size=3)
    for one, other in zip(parts, whole, strict=True):
        assert (one.index, one.layer, one.target) == (other.index, other.layer, other.target)
        np.testing.assert_allclose(one.coarse, other.coarse, atol=1e-5)
        for name in ("random_drop", "attended_drop", "control_drop"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-5)


def test_explaining_changes_neither_weights_nor_statistics():
    model = resnet().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    targets = {"predicted": np.array([0]), "true": np.array([1])}
    explained(model, images(1), np.array([0]), targets, [LayerMap("layer3", 8, 8)])
    assert all(parameter.grad is None for parameter in model.parameters())  # none came from explaining
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


class TopLeft(nn.Module):
    """Says class 1 by the mean of the top left corner's red, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Conv2d(3, 1, 1, bias=False)
        self.layer1.weight.data = torch.tensor([[[[1.0]], [[0.0]], [[0.0]]]])

    def forward(self, pixels):
        red = self.layer1(pixels)
        corner = torch.zeros_like(red)
        corner[:, :, :4, :4] = 1
        score = (red * corner).sum((1, 2, 3)) / 16
        return torch.stack([torch.zeros_like(score), score], 1)


def test_deletion_matters_where_the_network_looks():
    pixels = np.full((1, 10, 10, 3), 0, np.uint8)
    pixels[0, :4, :4, 0] = 255  # the corner is red; red is 2 after normalization, so p = sigmoid(2)
    targets = {"predicted": np.array([1]), "true": np.array([0])}
    predicted, true = explained(TopLeft(), pixels, np.array([7]), targets, [LayerMap("layer1", 10, 10)])
    # The gradient's mean is positive, so the map is the red channel: its 16 pixels are among the 20 hidden.
    assert predicted.deletion_drop == pytest.approx(1 / (1 + np.exp(-2)) - 0.5, abs=1e-6)
    assert true.deletion_drop <= 0
    # The blur of what is seen is black, -2 after normalization; there is no other image for a control.
    assert predicted.attended_drop == pytest.approx(1 / (1 + np.exp(-2)) - 1 / (1 + np.exp(2)), abs=1e-5)
    assert predicted.control_drop is None
    # Random pixels hide about a fifth of the corner.
    assert 0 < predicted.random_drop < predicted.deletion_drop / 2
    rows = gradcam_rows([predicted, true], {7: "a"}, {7: "b"})
    assert (rows[0]["peak_row"], rows[0]["peak_column"]) == (0, 0)
    assert (rows[0]["map_height"], rows[0]["map_width"], rows[0]["layer"]) == (10, 10, "layer1")


def test_a_map_without_heat_has_no_peak():
    pixels = np.full((1, 10, 10, 3), 255, np.uint8)
    targets = {"predicted": np.array([0]), "true": np.array([1])}
    predicted, _ = explained(TopLeft(), pixels, np.array([0]), targets, [LayerMap("layer1", 10, 10)])
    assert predicted.heat.max() == 0  # class 0's score does not depend on the image
    assert gradcam_rows([predicted], {0: "a"}, {0: "b"})[0]["peak_row"] is None


def test_the_same_seed_hides_the_same_random_pixels():
    targets = {"predicted": np.array([1]), "true": np.array([0])}
    layers = [LayerMap("layer1", 10, 10)]
    drops = [
        explained(TopLeft(), images(1, 10), np.array([7]), targets, layers, seed=seed)[0].random_drop
        for seed in (1, 1, 2)
    ]
    assert drops[0] == drops[1] != drops[2]


def test_nothing_to_explain():
    empty = np.array([], np.int64)
    targets = {"predicted": empty, "true": empty}
    assert explained(resnet(), images(0), empty, targets, [LayerMap("layer3", 8, 8)]) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layer9", r"'layer9' cannot be explained: no such layer; the model has conv1, .*layer4"),
        ("fc", r"'fc' cannot be explained: its output shape is \(1, 10\), not that of a feature map"),
    ],
)
def test_a_named_layer_without_a_map_is_refused(name, message):
    with pytest.raises(RequestError, match=message):
        chosen(resnet(), [name])


@pytest.mark.parametrize(
    ("changes", "layers", "note"),
    [
        ({}, ["layer1", "layer2", "layer3"], None),  # layer4 is 4x4
        ({"minimum_map": 33}, [], "every layer's map is smaller than 33x33"),
        ({"images": 0}, [], None),
        ({"indices": []}, [], None),
    ],
)
def test_small_maps_are_left_out(changes, layers, note):
    found = chosen(resnet(), **{"minimum_map": 5} | changes)
    assert [layer.name for layer in found.layers] == layers
    assert note in found.note if note else found.note is None
