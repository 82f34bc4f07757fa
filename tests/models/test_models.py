"""The networks, against torchvision's and against counts made by hand."""

import pytest
import torch
import torchvision

from cifar_exp import models


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("name", "count"), [("resnet18", 11_173_962), ("resnet34", 21_282_122)])
def test_parameter_counts_of_the_resnets(name, count):
    assert parameters(getattr(models, name)(num_classes=10, in_channels=3)) == count


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_a_resnet_is_torchvisions_behind_the_stem(name):
    torch.manual_seed(0)
    ours = getattr(models, name)(num_classes=10, in_channels=3).eval()
    theirs = getattr(torchvision.models, name)(num_classes=10).eval()
    weights = {key: value for key, value in ours.state_dict().items() if key != "conv1.weight"}
    missing = theirs.load_state_dict(weights, strict=False)
    assert missing.missing_keys == ["conv1.weight"]
    assert missing.unexpected_keys == []
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = torch.nn.functional.conv2d(images, ours.conv1.weight, stride=1, padding=1)
        features = theirs.relu(theirs.bn1(features))
        for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            features = stage(features)
        expected = theirs.fc(features.mean((2, 3)))
        torch.testing.assert_close(ours(images), expected, atol=1e-5, rtol=1e-5)


def test_the_stem_keeps_the_resolution():
    sizes = []
    model = models.resnet18(num_classes=10, in_channels=3).eval()
    for name in ("layer1", "layer2", "layer3", "layer4"):
        getattr(model, name).register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape[2:])))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert sizes == [(32, 32), (16, 16), (8, 8), (4, 4)]


def test_resnet9_parameters_by_hand():
    # Convolutions 3x3 without bias, each followed by a norm of two values a channel, and the linear layer.
    width, classes = 64, 10
    convolutions = [(3, 64), (64, 128), (128, 128), (128, 128), (128, 256), (256, 512), (512, 512), (512, 512)]
    expected = sum(9 * i * o + 2 * o for i, o in convolutions) + 512 * classes + classes
    assert parameters(models.resnet9(num_classes=classes, in_channels=3, width=width)) == expected == 6_573_130


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet9"])
@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 2, 32), (3, 100, 16), (3, 10, 64)])
def test_other_channels_classes_and_sizes(name, channels, classes, size):
    options = {"width": 4} if name == "resnet9" else {}
    model = getattr(models, name)(num_classes=classes, in_channels=channels, **options).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, channels, size, size)).shape == (2, classes)
