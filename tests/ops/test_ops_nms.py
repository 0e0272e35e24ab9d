"""Suppression against the definition, written as loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from bench.ops.torch_ops import nms as module  # noqa: E402
from bench.ops.torch_ops.nms import GAUSSIAN, LINEAR, NAIVE, nms, softnms  # noqa: E402

whole_boxes = st.lists(st.tuples(*[st.integers(0, 12)] * 4), max_size=40).map(
    lambda rows: [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in rows]
)


def iou(a, b, offset: int) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
    union = area[0] + area[1] - w * h
    return w * h / union if union else float("nan")


def greedy(boxes, scores, threshold: float, offset: int) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if not any(iou(boxes[i], boxes[k], offset) > threshold for k in kept):
            kept.append(i)
    return kept


@settings(max_examples=60, deadline=None)
@given(whole_boxes, st.randoms(use_true_random=False), st.sampled_from([0.0, 0.3, 0.6, 1.0]), st.sampled_from([0, 1]))
def test_nms_is_greedy(boxes, random, threshold: float, offset: int) -> None:
    scores = [i / 64 for i in random.sample(range(64), len(boxes))]
    table = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    kept = nms(table, torch.tensor(scores, dtype=torch.float64), threshold, offset)
    assert kept.tolist() == greedy(boxes, scores, threshold, offset)


def test_nms_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(400, 2, generator=generator) * 50
    boxes = torch.cat([corner, corner + 20 * torch.rand(400, 2, generator=generator)], dim=1)
    scores = torch.rand(400, generator=generator)
    whole = nms(boxes, scores, 0.3, 0)
    assert 10 < len(whole) < 390
    for block, overlaps in ((1, 1 << 22), (7, 1 << 22), (128, 1000)):
        monkeypatch.setattr(module, "BLOCK", block)
        monkeypatch.setattr(module, "MAX_OVERLAPS", overlaps)
        assert torch.equal(nms(boxes, scores, 0.3, 0), whole)


def test_nms_offset_decides() -> None:
    """Two boxes that share one of nine pixel columns: IoU 0 as continuous areas, 1/9 as pixels."""
    boxes = torch.tensor([[0.0, 0.0, 4.0, 0.0], [4.0, 0.0, 8.0, 0.0]])
    scores = torch.tensor([0.4, 0.9])
    assert nms(boxes, scores, 0.1, 0).tolist() == [1, 0]
    assert nms(boxes, scores, 0.1, 1).tolist() == [1]
    assert nms(boxes, scores, 0.12, 1).tolist() == [1, 0]


def test_nms_on_nothing() -> None:
    kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5, 0)
    assert kept.shape == (0,)
    assert kept.dtype == torch.long


def soft(boxes, scores, threshold, sigma, least, method, offset):
    """Soft-NMS as the paper's figure 2 has it: take the best, let the others lose score, drop the poor ones."""
    left, found = dict(enumerate(scores)), []
    while left:
        best = max(left, key=lambda i: left[i])
        found.append((best, left.pop(best)))
        for i in list(left):
            overlap = iou(boxes[i], boxes[best], offset)
            if method == GAUSSIAN:
                left[i] *= np.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                left[i] *= 0 if method == NAIVE else 1 - overlap
            if left[i] < least:
                del left[i]
    return found


@settings(max_examples=60, deadline=None)
@given(whole_boxes, st.randoms(use_true_random=False), st.sampled_from([NAIVE, LINEAR, GAUSSIAN]))
def test_softnms_follows_the_paper(boxes, random, method: int) -> None:
    # Distinct irrational scores, so that no decay makes two of them equal.
    scores = [float(np.sqrt(i + 2.0) / 9) for i in random.sample(range(64), len(boxes))]
    table = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    dets = torch.full((len(boxes), 5), -1.0, dtype=torch.float64)
    kept = softnms(table, torch.tensor(scores, dtype=torch.float64), dets, 0.3, 0.5, 0.05, method, 1)
    expected = soft(boxes, scores, 0.3, 0.5, 0.05, method, 1)
    assert kept.tolist() == [i for i, _ in expected]
    assert dets[: len(kept), 4].tolist() == pytest.approx([score for _, score in expected])
    assert torch.equal(dets[: len(kept), :4], table[kept])


def test_softnms_leaves_its_input_alone() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 5], [9, 9, 12, 12]]), torch.tensor([0.2, 0.9, 0.5])
    before = boxes.clone(), scores.clone()
    kept = softnms(boxes, scores, torch.zeros(3, 5), 0.3, 0.5, 0.1, LINEAR, 0)
    assert kept.tolist() == [1, 2]  # the first falls to 0.2 * (1 - 16/20) = 0.04
    assert torch.equal(boxes, before[0])
    assert torch.equal(scores, before[1])
