"""Pixel losses against hand-made cases and a plain loop."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from methods._losses import binary_cross_entropy, focal  # noqa: E402


def one(value, dtype=torch.float32):
    return torch.tensor(value, dtype=dtype).reshape(1, 1, 1, -1)


def example(seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (2, 2, 3, 4))
    target = rng.integers(0, 2, logits.shape)
    weight = rng.uniform(0, 15, logits.shape)
    return logits, target, weight


def test_cross_entropy_by_hand():
    # p = 1/2, 3/4, 3/4 with truths 1, 1, 0: -log 1/2, -log 3/4, -log 1/4, weighted 1, 2, 4, over three pixels.
    logits = one([0.0, math.log(3), math.log(3)])
    expected = (math.log(2) + 2 * math.log(4 / 3) + 4 * math.log(4)) / 3
    found = binary_cross_entropy(logits, one([1, 1, 0], torch.uint8), one([1, 2, 4], torch.uint8))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_is_the_softmax_cross_entropy_of_two_logits():
    logits, target, weight = example()
    two = torch.tensor(np.stack([np.zeros_like(logits), logits], axis=1))  # background, foreground
    reference = torch.nn.functional.cross_entropy(two, torch.tensor(target), reduction="none")
    expected = (reference * torch.tensor(weight)).mean()
    found = binary_cross_entropy(torch.tensor(logits), torch.tensor(target), torch.tensor(weight))
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_focal_loss_by_a_plain_loop():
    logits, target, weight = example(1)
    gamma, alpha = 2.0, 0.25
    total = 0.0
    for x, y, w in zip(logits.flat, target.flat, weight.flat, strict=True):
        p = 1 / (1 + math.exp(-x))
        p_t = p if y else 1 - p
        total += w * (alpha if y else 1 - alpha) * -((1 - p_t) ** gamma) * math.log(p_t)
    found = focal(torch.tensor(logits), torch.tensor(target), torch.tensor(weight), gamma=gamma, alpha=alpha)
    assert found.item() == pytest.approx(total / logits.size, rel=1e-9)


def test_focal_loss_with_gamma_0_and_alpha_one_half_is_half_the_cross_entropy():
    logits, target, weight = (torch.tensor(a) for a in example(2))
    half = binary_cross_entropy(logits, target, weight) / 2
    assert focal(logits, target, weight, gamma=0, alpha=0.5).item() == pytest.approx(half.item(), rel=1e-9)


@pytest.mark.parametrize(
    "loss", [binary_cross_entropy, lambda *a: focal(*a, gamma=2, alpha=0.25)], ids=["cross-entropy", "focal"]
)
def test_a_pixel_of_weight_0_pulls_in_no_direction_and_extremes_stay_finite(loss):
    logits = one([2.0, 80.0, -80.0]).requires_grad_()
    value = loss(logits, one([0, 0, 1], torch.uint8), one([0, 1, 1], torch.uint8))
    value.backward()
    assert logits.grad.flatten()[0] == 0
    assert math.isfinite(value.item())
    assert torch.isfinite(logits.grad).all()
    # The wrong pixels are pushed the right way.
    assert logits.grad.flatten()[1] > 0
    assert logits.grad.flatten()[2] < 0
