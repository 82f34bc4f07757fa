"""Muon against singular values, its formula in NumPy, and PyTorch's SGD."""

import copy
import math

import numpy as np
import pytest
import torch

from cifar_exp.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (16, 16)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalize(matrix)
    left, before, right = torch.linalg.svd(matrix, full_matrices=False)
    after = torch.diag(left.T @ found @ right.T)  # the polynomial is odd: same singular vectors
    torch.testing.assert_close(left @ torch.diag(after) @ right, found, atol=1e-4, rtol=1e-4)
    assert before.max() / before.min() > after.max() / after.min()
    wide = before > 0.3 * before.max()
    assert ((after[wide] > 0.5) & (after[wide] < 1.5)).all()


def test_the_size_of_a_gradient_does_not_matter():
    matrix = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalize(matrix), orthogonalize(1000 * matrix))
    assert orthogonalize(torch.zeros(4, 9)).abs().max() == 0


def by_numpy(weights: np.ndarray, gradients: list[np.ndarray], lr: float, momentum: float) -> np.ndarray:
    """Two-dimensional, at least as wide as high."""
    velocity = np.zeros_like(weights)
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        x = gradient + momentum * velocity
        x = x / np.linalg.norm(x)
        for _ in range(3):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        weights = weights * np.sqrt(len(weights)) / np.linalg.norm(weights) - lr * x
    return weights


def test_steps_of_filters_against_numpy():
    generator = np.random.default_rng(0)
    start, gradients = generator.normal(size=(4, 3, 2, 2)), [generator.normal(size=(4, 3, 2, 2)) for _ in range(3)]
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = Muon([{"params": [parameter], "orthogonal": True}], lr=0.1, momentum=0.6)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    expected = by_numpy(start.reshape(4, 12), [g.reshape(4, 12) for g in gradients], 0.1, 0.6)
    np.testing.assert_allclose(parameter.detach().numpy().reshape(4, 12), expected, rtol=1e-6)


def test_orthogonalizing_in_bfloat16_stays_near_and_leaves_weights_and_momentum_as_they_are():
    start, gradient = torch.randn(2, 32, 288, generator=torch.Generator().manual_seed(0)).unbind()
    stepped = []
    for dtype in (torch.float32, torch.bfloat16):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = Muon([{"params": [parameter], "orthogonal": True}], lr=1.0, iteration_dtype=dtype)
        parameter.grad = gradient.clone()
        optimizer.step()
        assert parameter.dtype == optimizer.state[parameter]["momentum_buffer"].dtype == torch.float32
        torch.testing.assert_close(optimizer.state[parameter]["momentum_buffer"], gradient, rtol=0, atol=0)
        stepped.append(start * math.sqrt(32) / start.norm() - parameter.detach())
    exact, rounded = stepped
    assert 1e-5 < (rounded - exact).norm() / exact.norm() < 0.05  # eight bits; nine products carry the error on


def test_other_groups_are_sgd_with_nesterov_momentum():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    options = {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.01}
    optimizers = [Muon([ours], **options), torch.optim.SGD([theirs], nesterov=True, **options)]
    for _ in range(4):
        gradient = torch.randn(5, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_state_goes_through_a_state_dict():
    def made(start: torch.Tensor) -> tuple[torch.nn.Parameter, Muon]:
        parameter = torch.nn.Parameter(start.clone())
        return parameter, Muon([{"params": [parameter], "orthogonal": True}], lr=0.1)

    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(4, 3, 6, generator=generator)
    first, optimizer = made(torch.randn(3, 6, generator=generator))
    for position, gradient in enumerate(gradients):
        if position == 2:
            second, other = made(first.detach())
            other.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # as a file keeps it
        first.grad = gradient
        optimizer.step()
    for gradient in gradients[2:]:
        second.grad = gradient
        other.step()
    assert torch.equal(first, second)
