"""Losses of MU-Lux-CZ, CALT-US and Instance-U-Net against plain loops and hand-made cases."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from methods._losses import (  # noqa: E402
    UNKNOWN,
    cross_entropy,
    dice,
    foreground_logits,
    j_regularisation,
    proposals,
    squared_error,
)


def softmax(values):
    e = np.exp(values - np.max(values))
    return e / e.sum()


def batch(classes=4, seed=0, shape=(2, 3, 5), present=None):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (shape[0], classes, *shape[1:]))
    target = rng.choice(classes if present is None else present, shape).astype(np.uint8)
    return logits, target


# -- J regularisation ---------------------------------------------------------------------------------


def j_by_loops(logits, target, strength):
    """The double sum over pairs of classes, each mean by a loop over pixels of the whole batch."""
    n, classes, height, width = logits.shape
    probability = {}
    for place in np.ndindex(n, height, width):
        probability[place] = softmax(logits[place[0], :, place[1], place[2]])
    total = 0.0
    for i in range(classes):
        for k in range(classes):
            if i == k:
                continue
            of_i = [probability[p][i] for p in probability if target[p] == i]
            of_k = [probability[p][i] for p in probability if target[p] == k]
            if not of_i or not of_k:
                continue
            difference = sum(of_i) / len(of_i) - sum(of_k) / len(of_k)
            total -= strength * math.log(0.5 + 0.5 * difference + 1e-8)
    return total


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_j_is_the_double_loop(classes, seed):
    logits, target = batch(classes, seed)
    found = j_regularisation(torch.tensor(logits), torch.tensor(target), strength=0.3)
    assert found.item() == pytest.approx(j_by_loops(logits, target, 0.3), rel=1e-9)


@pytest.mark.parametrize("present", [[0, 2, 3], [1, 3], [2]])
def test_j_leaves_out_classes_that_do_not_occur_and_pixels_that_are_unknown(present):
    logits, target = batch(present=present)
    target[0, 0, :2] = UNKNOWN
    found = j_regularisation(torch.tensor(logits), torch.tensor(target), strength=1)
    assert found.item() == pytest.approx(j_by_loops(logits, target, 1), rel=1e-9, abs=1e-12)


def test_j_by_hand():
    # Two pixels of two classes, p = (3/4, 1/4) and (1/2, 1/2): differences 3/4 - 1/2 and 1/2 - 1/4.
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]]).reshape(1, 2, 1, 2)
    target = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    assert j_regularisation(logits, target, strength=1).item() == pytest.approx(-2 * math.log(5 / 8), rel=1e-6)


def test_j_is_zero_for_a_perfect_answer_and_finite_for_the_worst():
    target = torch.tensor([[[0, 1, 2, 3]]], dtype=torch.uint8)
    perfect = (200.0 * torch.eye(4)).reshape(1, 4, 1, 4)
    assert j_regularisation(perfect, target, strength=1).item() == pytest.approx(0, abs=1e-6)
    worst = perfect.roll(1, dims=3).requires_grad_()
    value = j_regularisation(worst, target, strength=1)
    value.backward()
    assert math.isfinite(value.item())
    assert torch.isfinite(worst.grad).all()


def test_j_pulls_each_class_towards_itself():
    logits, target = (torch.tensor(a) for a in batch(seed=5))
    logits.requires_grad_()
    before = j_regularisation(logits, target, strength=1)
    before.backward()
    after = j_regularisation(logits.detach() - 0.1 * logits.grad, target, strength=1)
    assert after < before


# -- the others ---------------------------------------------------------------------------------------


def test_cross_entropy_is_the_mean_over_known_pixels():
    logits, target = batch(seed=2)
    target[1, 1] = UNKNOWN
    terms = [
        -math.log(softmax(logits[n, :, r, c])[target[n, r, c]])
        for n, r, c in np.ndindex(target.shape)
        if target[n, r, c] != UNKNOWN
    ]
    found = cross_entropy(torch.tensor(logits), torch.tensor(target))
    assert found.item() == pytest.approx(sum(terms) / len(terms), rel=1e-9)
    unknown = np.full_like(target, UNKNOWN)
    assert cross_entropy(torch.tensor(logits), torch.tensor(unknown)).item() == 0


def test_two_logits_become_the_one_of_their_softmax():
    pairs = torch.tensor(np.random.default_rng(0).normal(0, 2, (2, 6, 3, 4)))
    for k in range(3):
        expected = pairs[:, 2 * k : 2 * k + 2].softmax(dim=1)[:, 1]
        torch.testing.assert_close(foreground_logits(pairs).sigmoid()[:, k], expected)


def test_squared_error_by_a_plain_loop_is_that_over_both_channels_of_the_softmax():
    rng = np.random.default_rng(1)
    logits, target = rng.normal(0, 2, (2, 1, 3, 4)), rng.integers(0, 2, (2, 1, 3, 4))
    weight = rng.uniform(0, 3, logits.shape)
    terms = []
    for x, y, w in zip(logits.flat, target.flat, weight.flat, strict=True):
        p = softmax(np.array([0.0, x]))
        terms += [w * (p[0] - (1 - y)) ** 2, w * (p[1] - y) ** 2]
    found = squared_error(torch.tensor(logits), torch.tensor(target), torch.tensor(weight))
    assert found.item() == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_dice_by_hand_and_its_limits():
    # p = 1/2, 3/4 with truths 1, 0: 1 - 2 (1/2) / (1/4 + 9/16 + 1).
    logits = torch.tensor([0.0, math.log(3)]).reshape(1, 1, 1, 2)
    truth = torch.tensor([1, 0], dtype=torch.uint8).reshape(1, 1, 1, 2)
    ones = torch.ones_like(truth)
    assert dice(logits, truth, ones).item() == pytest.approx(1 - 1 / (0.25 + 0.5625 + 1), rel=1e-5)
    assert dice(200.0 * truth - 100, truth, ones).item() == pytest.approx(0, abs=1e-5)
    assert dice(100 - 200.0 * truth, truth, ones).item() == pytest.approx(1, abs=1e-5)
    empty = dice(torch.full_like(logits, -200), torch.zeros_like(truth), ones)
    assert math.isfinite(empty.item())
    first = torch.tensor([1, 0], dtype=torch.uint8).reshape(1, 1, 1, 2)
    assert dice(logits, truth, first).item() == pytest.approx(1 - 1 / (0.25 + 1), rel=1e-5)


def test_proposal_losses_by_a_plain_loop():
    rng = np.random.default_rng(3)
    anchors, sigma = 3, 3.0
    objectness, deltas = rng.normal(0, 1, (2, 2 * anchors, 2, 3)), rng.normal(0, 0.3, (2, 4 * anchors, 2, 3))
    label = rng.integers(-1, 2, (2, anchors, 2, 3)).astype(np.int8)
    target = rng.normal(0, 0.3, deltas.shape).astype(np.float32)
    classification = regression = 0.0
    for n, a, r, c in np.ndindex(label.shape):
        if label[n, a, r, c] < 0:
            continue
        p = softmax(objectness[n, 2 * a : 2 * a + 2, r, c])
        classification -= math.log(p[label[n, a, r, c]])
        if label[n, a, r, c] == 1:
            for j in range(4 * a, 4 * a + 4):
                x = abs(deltas[n, j, r, c] - target[n, j, r, c])
                regression += (sigma * x) ** 2 / 2 if x < 1 / sigma**2 else x - 0.5 / sigma**2
    sampled = (label >= 0).sum()
    found = proposals(*(torch.tensor(a) for a in (objectness, deltas, label, target)), sigma=sigma)
    assert found[0].item() == pytest.approx(classification / sampled, rel=1e-6)
    assert found[1].item() == pytest.approx(regression / sampled, rel=1e-6)


def test_without_a_sampled_anchor_proposals_cost_nothing():
    nothing = torch.full((1, 2, 1, 1), -1, dtype=torch.int8)
    found = proposals(torch.ones(1, 4, 1, 1), torch.ones(1, 8, 1, 1), nothing, torch.zeros(1, 8, 1, 1), sigma=3)
    assert [value.item() for value in found] == [0, 0]
