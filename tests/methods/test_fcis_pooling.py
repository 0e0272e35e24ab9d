"""Position-sensitive RoI pooling: against a plain loop over bins in exact fractions, values and gradients."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from methods.fcis.pooling import SummedMaps, bin_edges, ps_roi_pool  # noqa: E402


def half_up(value):
    return math.floor(Fraction(value) + Fraction(1, 2))


def cells_of_bin(low, high, index, stride, size, limit):
    """The cells that one bin touches along one axis, by the definition."""
    start = Fraction(half_up(low), stride)
    length = max(Fraction(half_up(high), stride) - start, Fraction(1, 10))
    first, last = (start + length * i / size for i in (index, index + 1))
    return [cell for cell in range(math.floor(first), math.ceil(last)) if 0 <= cell < limit]


def pooled_by_loops(maps, boxes, group, stride, size):
    """Every bin's mean over the cells that it touches, of the map of its part of the RoI."""
    channels, height, width = maps.shape
    outputs = channels // group**2
    out = maps.new_zeros((len(boxes), outputs, size, size))
    for n, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        for k, i, j in itertools.product(range(outputs), range(size), range(size)):
            rows = cells_of_bin(y0, y1, i, stride, size, height)
            columns = cells_of_bin(x0, x1, j, stride, size, width)
            of = maps[(k * group + i * group // size) * group + j * group // size]
            values = [of[row, column] for row in rows for column in columns]
            if values:
                out[n, k, i, j] = sum(values) / len(values)
    return out


BOXES = torch.tensor(
    [
        [0.0, 0.0, 112.0, 80.0],  # the whole map
        [16.0, 32.0, 64.0, 48.0],  # along the cells' edges
        [3.2, 7.9, 60.1, 51.5],  # between pixels
        [37.5, 10.5, 41.49, 17.3],  # smaller than a cell
        [40.0, 40.0, 40.0, 40.0],  # without area
        [-30.0, -20.0, 50.0, 60.0],  # across the left and upper border
        [90.3, 50.7, 150.0, 130.0],  # across the right and lower border
        [200.0, 10.0, 260.0, 60.0],  # outside
        [112.0, 80.0, 112.0, 80.0],  # at the corner, where no cell is
    ],
    dtype=torch.float64,
)


@pytest.mark.parametrize(("group", "size"), [(1, 1), (2, 4), (3, 3), (7, 21)])
def test_pooling_against_a_plain_loop_over_bins_values_and_gradients(group, size):
    torch.manual_seed(0)
    maps = torch.randn(2 * group**2, 5, 7, dtype=torch.float64, requires_grad=True)
    boxes = BOXES if size < 21 else BOXES[[2, 5, 6, 7]]
    expected = pooled_by_loops(maps, boxes, group, 16, size)
    pooled = ps_roi_pool(SummedMaps.of(maps, group), boxes, 16, size)
    assert pooled.shape == (len(boxes), 2, size, size)
    assert torch.allclose(pooled, expected, atol=1e-12)
    weights = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), maps)
    (gradient,) = torch.autograd.grad((pooled * weights).sum(), maps)
    assert torch.allclose(gradient, wanted, atol=1e-12)
    assert gradient.abs().max() > 0.01


def test_gradients_are_those_of_finite_differences():
    maps = torch.randn(2 * 9, 4, 5, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[5.0, 3.0, 61.0, 50.0], [-9.0, 20.0, 33.0, 90.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m: ps_roi_pool(SummedMaps.of(m, 3), boxes, 16, 6), (maps,))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-100, 400),
    st.floats(0, 300),
    st.sampled_from([1, 8, 16]),
    st.sampled_from([3, 7, 21]),
    st.integers(1, 25),
)
def test_the_cells_of_every_bin_against_exact_fractions(low, length, stride, size, limit):
    high = low + length
    ends = (torch.tensor([end], dtype=torch.float64) for end in (low, high))
    starts, stops = bin_edges(*ends, stride, size, limit)
    for index, (start, stop) in enumerate(zip(starts[0].tolist(), stops[0].tolist(), strict=True)):
        assert list(range(start, stop)) == cells_of_bin(low, high, index, stride, size, limit)


def test_a_bin_that_ends_at_a_cells_edge_does_not_touch_the_next_cell():
    # 21 bins on 21 cells: one cell each. In floating point 16 * (21 * 16 / 21) is not always a whole number of cells.
    for offset in range(30):
        low = torch.tensor([16.0 * offset])
        starts, stops = bin_edges(low, low + 21 * 16, 16, 21, 100)
        assert (stops - starts == 1).all()
        assert starts[0, 0] == offset


def test_each_part_of_a_roi_reads_its_own_map_class_by_class_outside_before_inside():
    # Map c is c everywhere: what is pooled names the map that it comes from.
    channels = 3 * 2 * 49
    maps = torch.arange(float(channels))[:, None, None].expand(-1, 6, 6).contiguous()
    pooled = ps_roi_pool(SummedMaps.of(maps, 7), torch.tensor([[0.0, 0.0, 96.0, 96.0]]), 16, 21)
    for output, i, j in itertools.product(range(6), range(21), range(21)):
        assert pooled[0, output, i, j] == output * 49 + (i // 3) * 7 + j // 3
    parts = pooled.unflatten(1, (3, 2))
    assert parts[0, 2, 0, 0, 0] == (2 * 2 + 0) * 49  # class 2, outside
    assert parts[0, 2, 1, 20, 20] == (2 * 2 + 1) * 49 + 48  # class 2, inside


def test_bins_outside_the_map_are_zero_and_teach_nothing():
    maps = torch.ones(4, 3, 3, requires_grad=True)
    boxes = torch.tensor([[24.0, 0.0, 72.0, 48.0], [48.0, 0.0, 90.0, 48.0]])
    pooled = ps_roi_pool(SummedMaps.of(maps, 2), boxes, 16, 2)
    assert pooled[0, 0].tolist() == [[1, 0], [1, 0]]
    assert pooled[1].abs().max() == 0
    pooled.sum().backward()
    # Two bins of the first RoI, each the mean of some cells: a gradient of 1 each, into the maps of its left parts.
    assert maps.grad.sum(dim=(1, 2)).tolist() == pytest.approx([1, 0, 1, 0])


def test_no_roi_and_maps_that_are_no_multiple():
    summed = SummedMaps.of(torch.zeros(8, 3, 4, requires_grad=True), 2)
    pooled = ps_roi_pool(summed, torch.zeros(0, 4), 16, 6)
    assert pooled.shape == (0, 2, 6, 6)
    pooled.sum().backward()
    with pytest.raises(ValueError, match="multiple"):
        SummedMaps.of(torch.zeros(6, 3, 4), 2)


def test_small_features_survive_a_large_map():
    """Summed areas of 16,000 cells of large values, in single precision, would lose the small ones."""
    maps = torch.full((1, 128, 128), 1000.0)
    maps[0, 100:, 100:] = 0.001
    one = torch.tensor([[1600.0, 1600.0, 1616.0, 1616.0]])
    pooled = ps_roi_pool(SummedMaps.of(maps, 1), one, 16, 1)
    assert pooled.dtype == torch.float32
    assert pooled.item() == pytest.approx(0.001, rel=1e-4)
    half = ps_roi_pool(SummedMaps.of(maps.half(), 1), one, 16, 1)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(float(np.float16(0.001)), rel=1e-4)


def test_boxes_receive_no_gradient():
    boxes = torch.tensor([[1.0, 2.0, 40.0, 50.0]], requires_grad=True)
    maps = torch.randn(4, 4, 4, requires_grad=True)
    ps_roi_pool(SummedMaps.of(maps, 2), boxes, 16, 4).sum().backward()
    assert boxes.grad is None
    assert maps.grad is not None
