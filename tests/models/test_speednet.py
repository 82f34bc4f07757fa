"""The network of ``experiment=speedrun``: its first layer whitens, its convolutions pass through, its cost is known."""

import numpy as np
import pytest
import torch
from composing import composed
from torch.utils.flop_counter import FlopCounterMode

from cifar_exp.build import build
from cifar_exp.models import speednet
from cifar_exp.models.speednet import compute_whitening_filters

OPTIONS = {"whitening_epsilon": 5e-4, "whitening_bias_epochs": 3, "norm_momentum": 0.4, "logit_scale": 1 / 9}


def network(widths=(8, 16, 16), channels: int = 3, classes: int = 10):
    torch.manual_seed(0)
    return speednet(num_classes=classes, in_channels=channels, widths=list(widths), **OPTIONS)


def correlated_images(count: int = 50, channels: int = 3) -> torch.Tensor:
    """Smooth images: neighbouring pixels and channels go together, as in photographs."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(count, channels, 16, 16, generator=generator)
    images = torch.nn.functional.avg_pool2d(images, 3, stride=1)
    return images + 0.5 * images.mean(1, keepdim=True)


def second_moments(responses: torch.Tensor) -> np.ndarray:
    """(C, C), of the responses (N, C, H, W) at every place."""
    values = responses.double().permute(1, 0, 2, 3).flatten(1).numpy()
    return values @ values.T / values.shape[1]


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_are_uncorrelated_and_of_variance_one(channels):
    images = correlated_images(channels=channels)
    before = second_moments(torch.nn.functional.unfold(images, 2).unflatten(2, (13, 13)))
    assert np.abs(before - np.diag(np.diag(before))).max() > 0.1
    after = second_moments(torch.nn.functional.conv2d(images, compute_whitening_filters(images, 0.0)))
    np.testing.assert_allclose(after, np.eye(4 * channels), atol=1e-4)


def test_epsilon_shrinks_a_direction_by_its_share_of_the_variance():
    images, epsilon = correlated_images(), 0.1
    raw = second_moments(torch.nn.functional.unfold(images, 2).unflatten(2, (13, 13)))
    after = second_moments(torch.nn.functional.conv2d(images, compute_whitening_filters(images, epsilon)))
    variances = np.linalg.eigvalsh(raw)
    np.testing.assert_allclose(after, np.diag(variances / (variances + epsilon)), atol=1e-4)


def test_constant_images_do_not_break_it():
    assert torch.isfinite(compute_whitening_filters(torch.zeros(4, 3, 8, 8), 5e-4)).all()


def test_the_first_layer_holds_each_filter_and_its_opposite_and_is_not_trained():
    model = network()
    images = correlated_images()
    model.initialize(images)
    filters = model.whiten.weight
    torch.testing.assert_close(filters[:12], compute_whitening_filters(images, 5e-4))
    torch.testing.assert_close(filters[12:], -filters[:12])
    model(images).sum().backward()
    assert filters.grad is None
    assert model.layer1[0].weight.grad is not None


def test_the_first_filters_of_a_convolution_pass_their_input_through():
    model = network(widths=(32, 16, 16))
    convolution = model.layer1[0]  # 24 channels to 32
    images = torch.randn(2, 24, 9, 9)
    torch.testing.assert_close(convolution(images)[:, :24], images)
    narrowing = model.layer2[0]  # 32 channels to 16
    images = torch.randn(2, 32, 9, 9)
    torch.testing.assert_close(narrowing(images), images[:, :16])


def test_norms_learn_a_shift_and_no_scale():
    trained = {name for name, value in network().named_parameters() if value.requires_grad}
    norms = [f"layer{n}.{place}.bias" for n in (1, 2, 3) for place in (2, 5)]
    convolutions = [f"layer{n}.{place}.weight" for n in (1, 2, 3) for place in (0, 4)]
    assert trained == {*norms, *convolutions, "fc.weight", "whiten.bias"}


def test_the_whitening_bias_is_trained_in_the_first_epochs_only():
    model = network()
    model.initialize(correlated_images())
    assert model.whiten.bias.abs().max() == 0
    trained = []
    for epoch in range(1, 6):
        model.begin_epoch(epoch)
        model.zero_grad()
        model(torch.randn(2, 3, 16, 16)).sum().backward()
        trained.append(model.whiten.bias.grad is not None)
    assert trained == [True, True, True, False, False]


@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 2, 28), (3, 100, 32), (3, 10, 24), (3, 10, 9)])
def test_channels_classes_and_sizes(channels, classes, size):
    model = network(channels=channels, classes=classes).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, channels, size, size)).shape == (2, classes)


def test_multiplications_and_parameters_by_hand():
    model = network(widths=(64, 256, 256))
    convolutions = [(31, 2, 3, 24), (31, 3, 24, 64), (15, 3, 64, 64), (15, 3, 64, 256), (7, 3, 256, 256)]
    convolutions += [(7, 3, 256, 256), (3, 3, 256, 256)]  # output size, filter size, channels in, channels out
    forward = 2 * sum(s * s * k * k * i * o for s, k, i, o in convolutions) + 2 * 256 * 10
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() == forward == 236_294_720
    weights = sum(k * k * i * o for _, k, i, o in convolutions) + 24 + 256 * 10 + 2 * 2 * (64 + 256 + 256)
    assert sum(value.numel() for value in model.parameters()) == weights


def test_build_initializes_from_the_training_images_and_repeats():
    overrides = ["model=speednet", "model.widths=[4,4,4]", "data=mnist5k", "data.limit_train=300", "threads=1"]
    filters = [build(composed(*overrides, *more)).learner.model.whiten.weight for more in ([], [], ["seed=1"])]
    torch.testing.assert_close(filters[0], filters[1], rtol=0, atol=0)
    torch.testing.assert_close(filters[0], filters[2], rtol=0, atol=0)  # the images decide, not the seed
    assert filters[0].shape == (8, 1, 2, 2)
    assert filters[0].abs().max() > 1  # far from PyTorch's initial weights
