"""Deformable convolution against plain convolution and its definition, written as loops."""

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench.ops.deform_interface import Geometry  # noqa: E402
from bench.ops.torch_ops import deform_conv as module  # noqa: E402
from bench.ops.torch_ops.deform_conv import convolve, differentiate  # noqa: E402


class Deform(torch.autograd.Function):
    """The two functions as one differentiable one."""

    @staticmethod
    def forward(ctx: Any, data, offset, mask, weight, geometry):
        ctx.save_for_backward(data, offset, mask, weight)
        ctx.geometry = geometry
        return convolve(data, offset, mask, weight, geometry)

    @staticmethod
    def backward(ctx: Any, grad):
        found = differentiate(*ctx.saved_tensors, grad.contiguous(), ctx.geometry, of_reading=True, of_weight=True)
        return found.input, found.offset, found.mask, found.weight, None


def geometry(**changes: Any) -> Geometry:
    plain = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1, "deform_groups": 1}
    return Geometry(**{**plain, **changes})


def case(g: Geometry, images: int = 2, channels: int = 6, out_channels: int = 6, size: tuple[int, int] = (6, 7)):
    """Random data, offset, mask and weight in double precision."""
    generator = torch.Generator().manual_seed(2)
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(size, g.padding, g.dilation, g.kernel, g.stride, strict=True)
    ]

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return (
        random(images, channels, *size),
        random(images, g.deform_groups * g.taps * 2, *out),
        random(images, g.deform_groups * g.taps, *out).sigmoid(),
        random(out_channels, channels // g.groups, *g.kernel),
    )


GEOMETRIES = {
    "plain": geometry(),
    "stride": geometry(stride=(2, 1)),
    "padding": geometry(padding=(0, 2)),
    "dilation": geometry(dilation=(2, 1), padding=(2, 1)),
    "groups": geometry(groups=3),
    "deform groups": geometry(deform_groups=2),
    "both groups": geometry(groups=2, deform_groups=3),
    "oblong kernel": geometry(kernel=(1, 3), padding=(0, 1)),
}
each_geometry = pytest.mark.parametrize("g", GEOMETRIES.values(), ids=GEOMETRIES.keys())


@each_geometry
def test_without_offset_it_is_a_convolution(g: Geometry) -> None:
    data, offset, _, weight = case(g)
    result = convolve(data, torch.zeros_like(offset), None, weight, g)
    expected = torch.nn.functional.conv2d(data, weight, None, g.stride, g.padding, g.dilation, g.groups)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(("dy", "dx"), [(1, 0), (0, -2), (-3, 2)])
def test_with_a_whole_offset_it_is_a_shifted_convolution(dy: int, dx: int) -> None:
    data, offset, _, weight = case(geometry())
    offset[:, 0::2], offset[:, 1::2] = dy, dx
    shifted = torch.nn.functional.pad(data, (4, 4, 4, 4))[:, :, 4 + dy - 1 : 4 + dy + 7, 4 + dx - 1 : 4 + dx + 8]
    torch.testing.assert_close(
        convolve(data, offset, None, weight, geometry()), torch.nn.functional.conv2d(shifted, weight)
    )


def interpolate(plane: np.ndarray, y: float, x: float) -> float:
    """Bilinear between pixels, zero outside."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total += plane[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def loops(data, offset, mask, weight, g: Geometry) -> np.ndarray:
    images, channels = data.shape[:2]
    out_channels, per_group = weight.shape[:2]
    result = np.zeros((images, out_channels, *offset.shape[2:]))
    for n, o, i, j in np.ndindex(result.shape):
        for c in range(per_group):
            channel = o // (out_channels // g.groups) * per_group + c
            d = channel // (channels // g.deform_groups)
            for k in range(g.taps):
                at = d * g.taps + k
                y = i * g.stride[0] - g.padding[0] + k // g.kernel[1] * g.dilation[0] + offset[n, 2 * at, i, j]
                x = j * g.stride[1] - g.padding[1] + k % g.kernel[1] * g.dilation[1] + offset[n, 2 * at + 1, i, j]
                value = interpolate(data[n, channel], y, x) * (1 if mask is None else mask[n, at, i, j])
                result[n, o, i, j] += weight[o, c].flat[k] * value
    return result


@each_geometry
@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_values(g: Geometry, modulated: bool) -> None:
    data, offset, mask, weight = case(g, images=1, size=(4, 5))
    factors = mask if modulated else None
    expected = loops(data.numpy(), 2 * offset.numpy(), factors.numpy() if modulated else None, weight.numpy(), g)
    np.testing.assert_allclose(convolve(data, 2 * offset, factors, weight, g).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["plain", "both groups"])
@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_gradients(name: str, modulated: bool) -> None:
    g = GEOMETRIES[name]
    data, offset, mask, weight = (t.requires_grad_() for t in case(g, images=1, size=(3, 4)))
    inputs = (data, offset, mask if modulated else None, weight, g)
    assert torch.autograd.gradcheck(Deform.apply, inputs, eps=1e-7, atol=1e-5, fast_mode=True)


def test_parts_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    g = geometry(groups=2, deform_groups=3)
    inputs = case(g)
    grad = torch.randn(2, 6, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def run():
        found = differentiate(*inputs, grad, g, of_reading=True, of_weight=True)
        return convolve(*inputs, g), found.input, found.offset, found.mask, found.weight

    whole = run()
    monkeypatch.setattr(module, "MAX_VALUES", 1)
    assert len(list(module._parts(*inputs[:3], g))) == 2 * 6
    for part, expected in zip(run(), whole, strict=True):
        torch.testing.assert_close(part, expected)


def test_two_runs_give_the_same_bits() -> None:
    g = geometry()
    inputs = [t.float() for t in case(g, channels=32, out_channels=32, size=(40, 40))]
    grad = torch.randn(2, 32, 40, 40, generator=torch.Generator().manual_seed(0))
    runs = []
    for _ in range(3):
        found = differentiate(*inputs, grad, g, of_reading=True, of_weight=True)
        runs.append((convolve(*inputs, g), found.input, found.offset, found.mask, found.weight))
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("kind", ["channels last", "half"])
def test_other_layouts_and_types(kind: str) -> None:
    g = geometry()
    inputs = case(g)
    expected = convolve(*inputs, g)
    if kind == "half":
        result = convolve(*[t.half() for t in inputs], g)
        assert result.dtype == torch.float16
        torch.testing.assert_close(result.double(), expected, atol=0.2, rtol=0.02)
    else:
        changed = [t.contiguous(memory_format=torch.channels_last) for t in inputs]
        torch.testing.assert_close(convolve(*changed, g), expected)
        grad = torch.ones_like(expected)
        found = differentiate(*changed, grad, g, of_reading=True, of_weight=True)
        plain = differentiate(*inputs, grad, g, of_reading=True, of_weight=True)
        for a, b in zip(vars(found).values(), vars(plain).values(), strict=True):
            torch.testing.assert_close(a, b)
