"""Focal losses against their formula, deformable attention against its definition, written as loops."""

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmcv")

from bench import ops  # noqa: E402
from bench.ops.torch_ops import OPERATORS  # noqa: E402

TARGETS = torch.tensor([0, 2, 3, 1, 3, 0])  # of three classes: 3 is background


class Focal(torch.autograd.Function):
    """A pair of operators as one differentiable function, as mmcv puts them together."""

    @staticmethod
    def forward(ctx: Any, logits, target, weight, gamma, alpha, kind):
        ctx.given, ctx.kind = {"gamma": gamma, "alpha": alpha}, kind
        data = logits.softmax(1) if kind == "softmax" else logits
        ctx.save_for_backward(data, target, weight)
        output = logits.new_zeros(logits.shape if kind == "sigmoid" else logits.shape[:1])
        OPERATORS[f"{kind}_focal_loss_forward"](data, target, weight, output, **ctx.given)
        return output

    @staticmethod
    def backward(ctx: Any, grad):
        data, target, weight = ctx.saved_tensors
        found = torch.zeros_like(data)
        buffers = (torch.zeros_like(data[:, 0]),) if ctx.kind == "softmax" else ()
        OPERATORS[f"{ctx.kind}_focal_loss_backward"](data, target, weight, *buffers, found, **ctx.given)
        return found * (grad if ctx.kind == "sigmoid" else grad[:, None]), None, None, None, None, None


def logits() -> torch.Tensor:
    return 3 * torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_focal_loss(weighted: bool) -> None:
    data, gamma, alpha = logits(), 2.0, 0.25
    weight = torch.tensor([0.5, 2.0, 3.0] if weighted else [], dtype=torch.float64)
    loss = Focal.apply(data, TARGETS, weight, gamma, alpha, "sigmoid")
    for n, c in np.ndindex(6, 3):
        p = 1 / (1 + math.exp(-data[n, c]))
        if TARGETS[n] == c:
            expected = -alpha * (1 - p) ** gamma * math.log(p)
        else:
            expected = -(1 - alpha) * p**gamma * math.log(1 - p)
        if weighted and TARGETS[n] < 3:
            expected *= weight[TARGETS[n]]
        assert loss[n, c].item() == pytest.approx(float(expected))
    assert torch.autograd.gradcheck(
        lambda data: Focal.apply(data, TARGETS, weight, gamma, alpha, "sigmoid"), data.requires_grad_()
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_focal_loss(weighted: bool) -> None:
    data, gamma, alpha = logits(), 2.0, 0.25
    targets = torch.where(TARGETS == 3, -1, TARGETS)
    weight = torch.tensor([0.5, 2.0, 3.0] if weighted else [], dtype=torch.float64)
    loss = Focal.apply(data, targets, weight, gamma, alpha, "softmax")
    for n, target in enumerate(targets.tolist()):
        p = math.exp(data[n, target]) / sum(math.exp(v) for v in data[n])
        expected = 0 if target < 0 else -alpha * (1 - p) ** gamma * math.log(p) * (weight[target] if weighted else 1)
        assert loss[n].item() == pytest.approx(float(expected))
    assert torch.autograd.gradcheck(
        lambda data: Focal.apply(data, targets, weight, gamma, alpha, "softmax"), data.requires_grad_()
    )


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_certain_predictions_have_finite_losses(kind: str) -> None:
    data = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]], requires_grad=True)
    loss = Focal.apply(data, torch.tensor([1, 1]), torch.zeros(0), 2.0, 0.25, kind)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert data.grad is not None
    assert data.grad.isfinite().all()


def test_mmdet_focal_loss_agrees_with_the_operator() -> None:
    """mmdet takes its Python formula on the CPU and mmcv's operator on a GPU: a method trains alike on both."""
    ops.import_mmdet()
    from mmdet.models.losses import FocalLoss

    data, target = logits(), TARGETS
    on_cpu = FocalLoss(use_sigmoid=True, gamma=2.0, alpha=0.25, reduction="sum")(data, target)
    by_operator = Focal.apply(data, target, data.new_zeros(0), 2.0, 0.25, "sigmoid").sum()
    torch.testing.assert_close(by_operator, on_cpu)


def attention_case():
    generator = torch.Generator().manual_seed(4)
    shapes = torch.tensor([[3, 4], [2, 2]])
    starts = torch.tensor([0, 12])

    def random(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    value = random(2, 16, 2, 3)
    locations = random(2, 5, 2, 2, 3, 2) * 1.4 - 0.2  # some outside
    weights = random(2, 5, 2, 2, 3)
    return value, shapes, starts, locations, weights


def attend(value, shapes, starts, locations, weights) -> np.ndarray:
    n, queries, heads, levels, points, _ = locations.shape
    result = np.zeros((n, queries, heads, value.shape[3]))
    for b, q, h, level, p in np.ndindex(n, queries, heads, levels, points):
        height, width = shapes[level]
        x, y = locations[b, q, h, level, p] * (width, height) - 0.5
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(y - row)) * (1 - abs(x - column)) * weights[b, q, h, level, p]
                    result[b, q, h] += share * value[b, starts[level] + row * width + column, h]
    return result.reshape(n, queries, -1)


def test_attention() -> None:
    """As mmcv calls it on a GPU; here on the CPU."""
    ops.install()
    value, shapes, starts, locations, weights = attention_case()
    result = OPERATORS["ms_deform_attn_forward"](value, shapes, starts, locations, weights, im2col_step=64)
    expected = attend(*(t.numpy() for t in (value, shapes, starts, locations, weights)))
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-12)

    gradient = torch.randn(result.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = [torch.full_like(t, torch.nan) for t in (value, locations, weights)]
    OPERATORS["ms_deform_attn_backward"](value, shapes, starts, locations, weights, gradient, *found, im2col_step=64)

    def objective(value, locations, weights) -> float:
        arrays = [t.numpy() for t in (value, shapes, starts, locations, weights)]
        return float((attend(*arrays) * gradient.numpy()).sum())

    inputs, step = [value, locations, weights], 1e-6
    random = np.random.default_rng(0)
    for i, tensor in enumerate(inputs):
        for at in random.choice(tensor.numel(), 12, replace=False):
            moved = []
            for sign in (1, -1):
                changed = tensor.clone()
                changed.view(-1)[at] += sign * step
                moved.append(objective(*inputs[:i], changed, *inputs[i + 1 :]))
            assert found[i].view(-1)[at].item() == pytest.approx((moved[0] - moved[1]) / (2 * step), abs=1e-6)
