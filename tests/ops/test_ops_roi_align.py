"""RoIAlign against its definition, written as loops, and its gradients against differences."""

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench.ops.torch_ops import roi_align as module  # noqa: E402
from bench.ops.torch_ops.roi_align import (  # noqa: E402
    MAX_POOL,
    MEAN_POOL,
    roi_align_backward,
    roi_align_forward,
)


class Pool(torch.autograd.Function):
    """The two operators as one differentiable function, as mmcv puts them together."""

    @staticmethod
    def forward(ctx: Any, features, rois, settings):
        shape = (len(rois), features.shape[1], settings["aligned_height"], settings["aligned_width"])
        output, y, x = (features.new_zeros(shape) for _ in range(3))
        roi_align_forward(features, rois, output, y, x, **settings)
        ctx.save_for_backward(rois, y, x)
        ctx.shape, ctx.settings = features.shape, settings
        return output

    @staticmethod
    def backward(ctx: Any, grad):
        rois, y, x = ctx.saved_tensors
        grad_features = grad.new_zeros(ctx.shape)
        roi_align_backward(grad.contiguous(), rois, y, x, grad_features, **ctx.settings)
        return grad_features, None, None


def settings(bins=(2, 3), scale=0.5, sampling_ratio=0, pool_mode=MEAN_POOL, aligned=True) -> dict[str, Any]:
    return {
        "aligned_height": bins[0],
        "aligned_width": bins[1],
        "spatial_scale": scale,
        "sampling_ratio": sampling_ratio,
        "pool_mode": pool_mode,
        "aligned": aligned,
    }


def interpolate(plane: np.ndarray, y: float, x: float) -> float:
    """Bilinear; the border pixel up to one pixel outside, 0 further out."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    upper = (1 - fx) * plane[top, left] + fx * plane[top, right]
    lower = (1 - fx) * plane[bottom, left] + fx * plane[bottom, right]
    return (1 - fy) * upper + fy * lower


def loops(features: np.ndarray, rois: np.ndarray, s: dict[str, Any]) -> np.ndarray:
    bins_y, bins_x = s["aligned_height"], s["aligned_width"]
    pooled = np.zeros((len(rois), features.shape[1], bins_y, bins_x))
    for r, (image, *box) in enumerate(rois):
        x0, y0, x1, y1 = (v * s["spatial_scale"] - (0.5 if s["aligned"] else 0) for v in box)
        height, width = y1 - y0, x1 - x0
        if not s["aligned"]:
            height, width = max(height, 1), max(width, 1)
        bin_y, bin_x = height / bins_y, width / bins_x
        n_y, n_x = (s["sampling_ratio"] or math.ceil(size) for size in (bin_y, bin_x))
        for c in range(features.shape[1]):
            for i in range(bins_y):
                for j in range(bins_x):
                    values = [
                        interpolate(
                            features[int(image), c],
                            y0 + i * bin_y + (a + 0.5) * bin_y / n_y,
                            x0 + j * bin_x + (b + 0.5) * bin_x / n_x,
                        )
                        for a in range(n_y)
                        for b in range(n_x)
                    ]
                    if s["pool_mode"] == MAX_POOL:
                        pooled[r, c, i, j] = max(values, default=-10000)
                    else:
                        pooled[r, c, i, j] = sum(values) / max(len(values), 1)
    return pooled


ROIS = torch.tensor(
    [
        [0, 2.0, 3.0, 9.0, 8.0],
        [1, 4.3, 1.7, 11.9, 15.2],
        [0, -6.0, -5.0, 4.0, 5.0],  # partly outside
        [1, 9.0, 9.0, 40.0, 30.0],
        [0, 60.0, 60.0, 80.0, 80.0],  # wholly outside
        [1, 5.0, 5.0, 5.0, 9.0],  # no width
        [0, 7.2, 3.1, 7.2, 3.1],  # a point
        [1, 0.0, 0.0, 14.0, 12.0],  # the whole image
    ],
    dtype=torch.float64,
)


def features(channels: int) -> torch.Tensor:
    return torch.randn(2, channels, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(channels))


@pytest.mark.parametrize("channels", [2, module.FEW_CHANNELS + 1])
@pytest.mark.parametrize("pool_mode", [MEAN_POOL, MAX_POOL])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
def test_values(channels: int, pool_mode: int, aligned: bool, sampling_ratio: int) -> None:
    data, s = features(channels), settings(pool_mode=pool_mode, aligned=aligned, sampling_ratio=sampling_ratio)
    pooled = Pool.apply(data, ROIS, s)
    np.testing.assert_allclose(pooled.numpy(), loops(data.numpy(), ROIS.numpy(), s), atol=1e-12)


@pytest.mark.parametrize(("pool_mode", "few"), [(MEAN_POOL, 1), (MEAN_POOL, 0), (MAX_POOL, 0)])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_gradients(pool_mode: int, few: int, sampling_ratio: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW_CHANNELS", few)
    s = settings(pool_mode=pool_mode, sampling_ratio=sampling_ratio)
    data = features(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda data: Pool.apply(data, ROIS, s), data, eps=1e-7, atol=1e-5, fast_mode=True)


def test_a_ramp_is_pooled_to_bin_centres() -> None:
    """Interpolation keeps a plane a plane, so a bin's mean is the plane at its centre."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
    pooled = Pool.apply((10 * y + x)[None, None], torch.tensor([[0, 4.0, 6.0, 16.0, 10.0]]), settings((2, 3), 1.0))
    # Continuous coordinates count from the corner of the first pixel: pixel centres are half further.
    expected = [[10 * (cy - 0.5) + cx - 0.5 for cx in (6.0, 10.0, 14.0)] for cy in (7.0, 9.0)]
    torch.testing.assert_close(pooled[0, 0], torch.tensor(expected))


@pytest.mark.parametrize("channels", [1, module.FEW_CHANNELS + 1])
@pytest.mark.parametrize("pool_mode", [MEAN_POOL, MAX_POOL])
def test_parts_do_not_change_the_result(channels: int, pool_mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    s = settings(pool_mode=pool_mode)
    data = features(channels).requires_grad_()
    whole = Pool.apply(data, ROIS, s)
    (gradient,) = torch.autograd.grad(whole.square().sum(), data)
    monkeypatch.setattr(module, "MAX_ENTRIES", 50)
    parts = list(module._Pooling(6, 7, 2, 3, 0.5, 0, True).parts(ROIS, pool_mode == MAX_POOL))
    assert len(parts) > 3
    assert [i for part in parts for i in range(len(ROIS))[part]] == list(range(len(ROIS)))
    pooled = Pool.apply(data, ROIS, s)
    torch.testing.assert_close(pooled, whole, atol=0, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(pooled.square().sum(), data)[0], gradient)


@pytest.mark.parametrize("pool_mode", [MEAN_POOL, MAX_POOL])
@pytest.mark.parametrize("rois", [torch.zeros(0, 5), torch.tensor([[0, 3.0, 3.0, 3.0, 3.0]])], ids=["none", "a point"])
def test_nothing_to_pool(pool_mode: int, rois: torch.Tensor) -> None:
    data = torch.ones(1, 20, 6, 7, requires_grad=True)
    pooled = Pool.apply(data, rois, settings(pool_mode=pool_mode))
    assert pooled.shape == (len(rois), 20, 2, 3)
    pooled.sum().backward()
    assert data.grad is not None
    assert not data.grad.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_box_that_is_not_finite_reads_nothing(value: float) -> None:
    """A diverging network makes such boxes; the loss must say so, not the memory."""
    rois = torch.tensor([[0, 1.0, 1.0, 5.0, 5.0], [0, 1.0, 1.0, value, 5.0]])
    for channels in (1, 20):
        pooled = Pool.apply(torch.ones(1, channels, 6, 7), rois, settings(scale=1.0))
        torch.testing.assert_close(pooled[0], torch.ones(channels, 2, 3))
        assert not pooled[1].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    data, s = features(16).to(dtype), settings()
    pooled = Pool.apply(data, ROIS.to(dtype), s)
    assert pooled.dtype == dtype
    exact = Pool.apply(data.double(), ROIS.to(dtype).double(), s)
    torch.testing.assert_close(pooled.double(), exact, atol=0.02, rtol=0.02)


def test_two_runs_give_the_same_bits() -> None:
    """Also with several threads: killed and resumed training must end in the same weights."""
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(300, 2, generator=generator) * 200
    rois = torch.cat([torch.zeros(300, 1), corner, corner + 40 * torch.rand(300, 2, generator=generator)], dim=1)
    for channels, bins in ((64, 7), (1, 28)):
        data = torch.randn(1, channels, 64, 64, generator=generator, requires_grad=True)
        runs = []
        for _ in range(3):
            pooled = Pool.apply(data, rois, settings((bins, bins), 0.25))
            runs.append((pooled, torch.autograd.grad(pooled.square().sum(), data)[0]))
        assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0], strict=True))
