"""Our operators against compiled ones, in values and gradients.

Both have the arguments of ``mmcv._ext``, so each test calls the two alike. Runs where compiled ones are installed.
"""

import importlib
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmcv")

from bench.ops import provider  # noqa: E402
from bench.ops.torch_ops import OPERATORS  # noqa: E402

Operator = Callable[..., Any]
Lookup = Callable[[str], Operator]


REFERENCES = [c.provider for c in provider.list_candidates() if c.provider != "torch" and not c.fault]
if not REFERENCES:
    faults = "; ".join(f"{c.provider}: {c.fault}" for c in provider.list_candidates() if c.fault)
    pytest.skip(f"no compiled operators to compare with ({faults})", allow_module_level=True)


@pytest.fixture(params=REFERENCES)
def lookup(request: pytest.FixtureRequest) -> Lookup:
    """Compiled operators, by name: mmcv's own, or those that we serve from torchvision."""
    if request.param == "mmcv":
        return lambda name: getattr(provider.compiled_extension(), name)
    served = importlib.import_module("bench.ops.torchvision_ops").OPERATORS

    def find(name: str) -> Operator:
        if served[name] is OPERATORS[name]:
            pytest.skip(f"torchvision has no {name}: ours serves")
        return served[name]

    return find


@pytest.fixture
def both(lookup: Lookup) -> Callable[[Callable[[Lookup], Any]], tuple[Any, Any]]:
    """Run a call with ours and with theirs."""
    return lambda call: (call(OPERATORS.__getitem__), call(lookup))


def boxes(n: int, size: float, extent: float, generator: torch.Generator) -> torch.Tensor:
    corner = torch.rand(n, 2, generator=generator) * extent
    return torch.cat([corner, corner + torch.rand(n, 2, generator=generator) * size], dim=1)


@pytest.mark.parametrize("n", [0, 1, 700, 3000])
@pytest.mark.parametrize("offset", [0, 1])
def test_nms_keeps_the_same_indices(both, n: int, offset: int) -> None:
    generator = torch.Generator().manual_seed(n)
    box, score = boxes(n, 40, 200, generator), torch.rand(n, generator=generator)
    for threshold in (0.0, 0.3, 0.7, 1.0):
        ours, theirs = both(
            lambda op, threshold=threshold: op("nms")(box, score, iou_threshold=threshold, offset=offset)
        )
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("offset", [0, 1])
def test_nms_resolves_ties_alike(both, offset: int) -> None:
    """Equal scores, equal boxes, IoUs exactly on the threshold, empty and inverted boxes."""
    generator = torch.Generator().manual_seed(1)
    box = torch.randint(0, 6, (1500, 4), generator=generator).float()
    score = torch.randint(0, 4, (1500,), generator=generator).float() / 4
    for threshold in (1 / 3, 0.5, 0.25, 0.3):
        ours, theirs = both(
            lambda op, threshold=threshold: op("nms")(box, score, iou_threshold=threshold, offset=offset)
        )
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("method", [0, 1, 2])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize(("n", "ties"), [(0, False), (1, False), (300, False), (300, True)])
def test_softnms(both, method: int, offset: int, n: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(n)
    box, score = boxes(n, 40, 150, generator), torch.rand(n, generator=generator)
    if ties:
        box, score = box.round(), (score * 4).round() / 4

    def call(op):
        dets = torch.zeros(n, 5)
        kept = op("softnms")(
            box, score, dets, iou_threshold=0.3, sigma=0.5, min_score=0.05, method=method, offset=offset
        )
        return dets[: len(kept)], kept

    (our_dets, ours), (their_dets, theirs) = both(call)
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(our_dets, their_dets, equal_nan=True)
    assert len(ours) < n or n < 2


def roi_case(channels: int, extent: float, size: float, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of two images of 24 x 30 pixels, and RoIs, some partly or wholly outside, some empty."""
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(2, channels, 24, 30, generator=generator)
    box = boxes(n, size, extent, generator) - 20
    box[0] = torch.tensor([5.0, 5.0, 5.0, 5.0])
    box[1] = torch.tensor([500.0, 500.0, 540.0, 520.0])
    box[2] = torch.tensor([-300.0, -300.0, 900.0, 900.0])
    box[3] = torch.tensor([0.0, 0.0, 120.0, 96.0])
    image = torch.randint(0, 2, (n, 1), generator=generator).float()
    return features, torch.cat([image, box], dim=1)


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("pool_mode", [0, 1])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
def test_roi_align(both, channels: int, pool_mode: int, aligned: bool, sampling_ratio: int) -> None:
    features, rois = roi_case(channels, 140, 60, 40)
    output_size = (7, 7) if sampling_ratio else (3, 5)
    settings = {
        "aligned_height": output_size[0],
        "aligned_width": output_size[1],
        "spatial_scale": 0.25,
        "sampling_ratio": sampling_ratio,
        "pool_mode": pool_mode,
        "aligned": aligned,
    }
    gradient = torch.randn(len(rois), channels, *output_size)

    def call(op):
        shape = (len(rois), channels, *output_size)
        output, y, x = (features.new_zeros(shape) for _ in range(3))
        op("roi_align_forward")(features, rois, output, y, x, **settings)
        of_features = torch.zeros_like(features)
        op("roi_align_backward")(gradient, rois, y, x, of_features, **settings)
        return output, of_features

    (ours, our_gradient), (theirs, their_gradient) = both(call)
    assert theirs.abs().sum() > 0
    assert their_gradient.abs().sum() > 0
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(our_gradient, their_gradient)


def test_mask_targets_cross_one_half_alike(both) -> None:
    """mmdet cuts mask targets with RoIAlign and compares them with 0.5; rounding must not decide."""
    generator = torch.Generator().manual_seed(3)
    masks = torch.zeros(30, 1, 96, 96)
    for mask in masks:
        y, x = torch.randint(0, 60, (2,), generator=generator).tolist()
        h, w = torch.randint(4, 36, (2,), generator=generator).tolist()
        mask[0, y : y + h, x : x + w] = 1
    whole = torch.randint(0, 60, (200, 2), generator=generator).float()
    box = torch.cat([whole, whole + torch.randint(3, 36, (200, 2), generator=generator)], dim=1)
    rois = torch.cat([torch.randint(0, 30, (200, 1), generator=generator).float(), box], dim=1)

    def call(op):
        output, unused = torch.zeros(200, 1, 28, 28), torch.zeros(0)
        op("roi_align_forward")(
            masks,
            rois,
            output,
            unused,
            unused,
            aligned_height=28,
            aligned_width=28,
            spatial_scale=1.0,
            sampling_ratio=0,
            pool_mode=1,
            aligned=True,
        )
        return output >= 0.5

    ours, theirs = both(call)
    assert 0.05 < theirs.float().mean() < 0.95
    assert (ours != theirs).float().mean() < 1e-4


LAYOUTS = {
    "3x3": {},
    "stride": {"stride": (2, 1)},
    "padding": {"padding": (0, 2)},
    "dilation": {"dilation": (2, 3), "padding": (2, 2)},
    "groups": {"groups": 2},
    "deform groups": {"deform_groups": 3},
    "groups of both kinds": {"groups": 3, "deform_groups": 2},
    "1x1": {"kernel": (1, 1), "padding": (0, 0)},
    "2x3": {"kernel": (2, 3)},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("spread", [0.0, 0.4, 6.0], ids=["whole", "near", "far"])
@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_deform_conv(request, both, layout, spread: float, modulated: bool) -> None:
    if spread == 0 and "torchvision" in request.node.name:
        pytest.skip("torchvision has another derivative exactly one pixel outside the input")
    generator = torch.Generator().manual_seed(5)
    kernel = layout.get("kernel", (3, 3))
    stride, padding = layout.get("stride", (1, 1)), layout.get("padding", (1, 1))
    dilation = layout.get("dilation", (1, 1))
    groups, deform_groups = layout.get("groups", 1), layout.get("deform_groups", 1)
    images, channels, height, width = 2, 6, 9, 11
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip((height, width), padding, dilation, kernel, stride, strict=True)
    ]
    taps = kernel[0] * kernel[1]

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    data = random(images, channels, height, width)
    offset = random(images, deform_groups * 2 * taps, *out) * spread
    if spread == 0:  # whole pixels, where the derivative has two sides
        offset = torch.randint(-2, 3, offset.shape, generator=generator).float()
    mask = torch.rand(images, deform_groups * taps, *out, generator=generator)
    weight, bias = random(12, channels // groups, *kernel), random(12)
    gradient = random(images, 12, *out)

    def plain(op):
        settings = {"kW": kernel[1], "kH": kernel[0], "dW": stride[1], "dH": stride[0]}
        settings |= {"padW": padding[1], "padH": padding[0], "dilationW": dilation[1], "dilationH": dilation[0]}
        settings |= {"group": groups, "deformable_group": deform_groups, "im2col_step": 2}
        buffers = torch.zeros(0), torch.zeros(0)
        output = torch.zeros(images, 12, *out)
        op("deform_conv_forward")(data, weight, offset, output, *buffers, **settings)
        found = {"data": torch.zeros_like(data), "offset": torch.zeros_like(offset), "weight": torch.zeros_like(weight)}
        op("deform_conv_backward_input")(
            data, offset, gradient, found["data"], found["offset"], weight, buffers[0], **settings
        )
        op("deform_conv_backward_parameters")(data, offset, gradient, found["weight"], *buffers, scale=1, **settings)
        return {"output": output, **found}

    def scaled(op):
        settings = {"kernel_h": kernel[0], "kernel_w": kernel[1], "stride_h": stride[0], "stride_w": stride[1]}
        settings |= {"pad_h": padding[0], "pad_w": padding[1], "dilation_h": dilation[0], "dilation_w": dilation[1]}
        settings |= {"group": groups, "deformable_group": deform_groups, "with_bias": True}
        buffers = torch.zeros(0), torch.zeros(0)
        output = torch.zeros(images, 12, *out)
        op("modulated_deform_conv_forward")(
            data, weight, bias, buffers[0], offset, mask, output, buffers[1], **settings
        )
        parts = {"data": data, "weight": weight, "bias": bias, "offset": offset, "mask": mask}
        found = {name: torch.zeros_like(t) for name, t in parts.items()}
        op("modulated_deform_conv_backward")(
            data, weight, bias, buffers[0], offset, mask, buffers[1], *found.values(), gradient, **settings
        )
        return {"output": output, **found}

    ours, theirs = both(scaled if modulated else plain)
    for name, expected in theirs.items():
        assert expected.abs().sum() > 0
        torch.testing.assert_close(ours[name], expected, atol=2e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
