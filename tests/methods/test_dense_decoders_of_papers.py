"""Post-processing of MU-Lux-CZ, CALT-US and Instance-U-Net on hand-made maps, and against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from methods._decoders import (
    cut_between_centres,
    domed_markers,
    ellipse,
    flood,
    flooded_cells,
    grown_cells,
    likeliest_of_three,
    plain_markers,
    thresholded_three,
    without_border,
)


def disks(shape, *circles):
    rows, columns = np.indices(shape)
    return np.any([(rows - r) ** 2 + (columns - c) ** 2 <= radius**2 for r, c, radius in circles], axis=0)


TWO = disks((50, 80), (25, 25, 12), (25, 46, 12))
"""Two disks that overlap: one component."""


# -- MU-Lux-CZ ----------------------------------------------------------------------------------------


def test_the_ellipse_of_a_side():
    assert ellipse(1).tolist() == [[True]]
    assert ellipse(3).all()
    assert ellipse(8).shape == (8, 8)
    assert not ellipse(8)[0, 0]
    assert ellipse(8)[0, 3:5].all()
    np.testing.assert_array_equal(ellipse(8), ellipse(8)[::-1].T)


def test_plain_markers_are_opened_filled_and_apart():
    marker = np.zeros((60, 60), np.float32)
    marker[disks(marker.shape, (20, 20, 8), (42, 42, 8))] = 1
    marker[20, 20] = 0  # a hole
    marker[20:24, 20:44] = marker[20:44, 41:44] = 1  # a bridge of 4 pixels
    labels = plain_markers(marker, 240 / 255, 8)
    assert labels.max() == 2
    assert labels[20, 20] > 0
    assert plain_markers(marker, 240 / 255, 1).max() == 1
    assert plain_markers(marker * 0.94, 240 / 255, 8).max() == 0  # 0.94 x 255 is below 240


def test_a_marker_at_the_edge_of_the_image_survives_the_opening():
    marker = np.zeros((30, 30), np.float32)
    marker[:5, 8:22] = 1
    assert plain_markers(marker, 0.9, 8).max() == 1


def test_domes_part_two_summits_that_a_threshold_merges():
    rows, columns = np.indices((40, 60))
    towards = [np.hypot(rows - 20, columns - c) for c in (20, 38)]
    marker = np.clip(1 - 0.004 * np.minimum(*towards), 0, 1).astype(np.float32)
    assert plain_markers(marker, 240 / 255, 1).max() == 1
    labels = domed_markers(marker, 240 / 255, 3 / 255)
    assert labels.max() == 2
    assert labels[20, 20] != labels[20, 38]
    # A pass 9 / 255 below the summits: a dome as deep as that joins them.
    assert domed_markers(marker, 240 / 255, 12 / 255).max() == 1
    assert domed_markers(marker * 0.9, 240 / 255, 3 / 255).max() == 0


def test_a_flat_marker_of_full_certainty_is_one_dome():
    marker = np.zeros((30, 30), np.float32)
    marker[10:20, 10:20] = 1
    assert (domed_markers(marker, 240 / 255, 5 / 255) > 0).sum() == 100


def test_each_marker_floods_its_own_cell_and_the_mask_grows_by_the_markers():
    mask = TWO.copy()
    mask[25, 25] = False
    markers = np.zeros(mask.shape, np.int32)
    markers[25, 25], markers[25, 46] = 1, 2
    height = np.where(TWO, 0.9, 0.1).astype(np.float32)
    height[:, 35:37] = 0.5
    labels = flood(markers, height, mask)
    assert labels[25, 14] == 1
    assert labels[25, 57] == 2
    assert ((labels > 0) == TWO).all()
    assert not flood(np.zeros_like(markers), height, mask).any()
    assert set(np.unique(flood(markers, height, mask, min_area=10**6))) == {0}


def test_cells_mostly_in_the_border_go_and_the_others_are_numbered_anew():
    labels = np.zeros((20, 20), np.int32)
    labels[0:2, 5:9], labels[0:4, 12:16], labels[10:14, 10:14] = 1, 2, 3
    assert without_border(labels, 0) is labels
    left = without_border(labels, 2)  # of 2 exactly half is in the border, and stays
    assert left[0, 5] == 0
    assert (left[0, 12], left[10, 10]) == (1, 2)
    assert not without_border(labels, 40).any()


# -- CALT-US ------------------------------------------------------------------------------------------


def of(*pixels):
    """Probabilities (4, 1, N) of pixels given as (background, cell, touching, gap)."""
    return np.array(pixels, np.float32).T[:, None]


@pytest.mark.parametrize(
    ("pixel", "expected"),
    [
        ((0.6, 0.4, 0.0, 0.0), 0),
        ((0.3, 0.45, 0.0, 0.25), 0),  # background and gap together
        ((0.1, 0.85, 0.05, 0.0), 1),
        ((0.1, 0.75, 0.15, 0.0), 2),  # a cell with some touching
        ((0.2, 0.2, 0.6, 0.0), 2),
        ((0.35, 0.25, 0.4, 0.0), 0),  # touching, but rather background than cell
        ((0.445, 0.45, 0.105, 0.0), 0),  # background is within 2 % of the others
        ((0.40, 0.45, 0.15, 0.0), 2),
    ],
)
def test_the_mended_maximum_a_posteriori_pixel_by_pixel(pixel, expected):
    assert likeliest_of_three(of(pixel)).tolist() == [[expected]]


@pytest.mark.parametrize(
    ("pixel", "expected"),
    [
        ((0.1, 0.87, 0.03, 0.0), 1),
        ((0.1, 0.85, 0.05, 0.0), 2),
        ((0.5, 0.49, 0.01, 0.0), 1),
        ((0.52, 0.48, 0.0, 0.0), 0),
        ((0.7, 0.2, 0.1, 0.0), 0),  # a trace of touching in the background
    ],
)
def test_thresholds_pixel_by_pixel(pixel, expected):
    assert thresholded_three(of(pixel), 0.49, 0.05).tolist() == [[expected]]


def grown_by_loops(classes):
    from skimage.measure import label

    labels = label(classes == 1, connectivity=2)
    height, width = labels.shape
    while True:
        before = labels.copy()
        for r in range(height):
            for c in range(width):
                if classes[r, c] and not before[r, c]:
                    labels[r, c] = before[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].max()
        if (labels == before).all():
            return labels


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=st.integers(0, 2)))
def test_cells_grow_as_in_a_plain_loop(classes):
    np.testing.assert_array_equal(grown_cells(classes), grown_by_loops(classes))


def test_cells_meet_in_the_middle_of_touching_and_touching_alone_is_no_cell():
    classes = np.array([[1, 1, 2, 2, 1, 1, 0, 2]], np.uint8)
    assert grown_cells(classes).tolist() == [[1, 1, 1, 2, 2, 2, 0, 0]]
    assert grown_cells(classes, min_area=4).tolist() == [[0] * 8]


def test_a_flood_from_sure_cells_stops_at_sure_background():
    probability = np.zeros((4, 3, 9), np.float32)
    probability[0] = 0.95
    probability[:, 1, 1:8] = np.array([0.02, 0.97, 0.01, 0.0], np.float32)[:, None]
    probability[:, 1, 4] = 0.1, 0.3, 0.6, 0.0
    probability[:, 1, 8] = 0.85, 0.1, 0.05, 0.0  # neither a cell nor sure background
    labels = flooded_cells(probability, 0.95, 0.9)
    assert labels[1, 1:4].tolist() == [1, 1, 1]
    assert labels[1, 5:9].tolist() == [2, 2, 2, 2]
    assert not labels[[0, 2]].any()
    assert not flooded_cells(probability, 0.98, 0.9).any()


def test_sure_pixels_that_meet_at_a_corner_are_two_cells():
    probability = np.zeros((4, 4, 4), np.float32)
    probability[0] = 1.0
    for place in (np.s_[:, :2, :2], np.s_[:, 2:, 2:]):
        probability[place] = np.array([0, 1, 0, 0], np.float32)[:, None, None]
    assert flooded_cells(probability, 0.95, 0.9).max() == 2


# -- Instance-U-Net -----------------------------------------------------------------------------------


def cut(mask, centres, **named):
    return cut_between_centres(mask, centres, **{"edge": 0, "radius": 3, **named})


def test_a_component_is_cut_between_its_centres_and_the_line_is_background():
    labels = cut(TWO, [(25, 25), (25, 46)])
    assert labels.max() == 2
    assert labels[25, 25] != labels[25, 46]
    line = TWO & (labels == 0)
    assert 0 < line.sum() < 30
    assert set(np.flatnonzero(line.any(axis=0))) <= set(range(33, 39))


def test_without_a_centre_a_component_is_one_cell_and_keeps_its_pixels():
    assert (cut(TWO, []) == TWO).all()
    assert (cut(TWO, [(2, 2)]) == TWO).all()  # a centre in the background


def test_centres_near_the_edge_of_the_image_do_not_count():
    assert cut(TWO, [(24, 25), (24, 46)], edge=24).max() == 2
    assert (cut(TWO, [(24, 25), (24, 46)], edge=25) == TWO).all()


def test_centres_whose_disks_touch_are_one_marker():
    assert cut(TWO, [(25, 25), (25, 31), (25, 46)]).max() == 2
    assert cut(TWO, [(25, 20), (25, 31), (25, 46)]).max() == 3


def test_a_disk_does_not_reach_into_the_next_component_or_beyond_a_notch():
    mask = np.zeros((30, 30), bool)
    mask[5:25, 5:14], mask[5:25, 15:25] = True, True
    labels = cut(mask, [(15, 13), (10, 20), (20, 20)])
    assert labels.max() == 3
    assert len(np.unique(labels[5:25, 5:14])) == 1
    mask[22:25, 14] = True  # joined below: a U whose arms are a pixel apart
    assert cut(mask, [(15, 13), (15, 20)]).max() == 2


def test_holes_stay_and_do_not_cut_specks_are_dropped_and_nothing_stays_nothing():
    mask = TWO.copy()
    mask[25, 25] = False
    mask[2, 2] = True
    labels = cut(mask, [], min_area=10)
    assert (labels > 0).sum() == TWO.sum() - 1
    assert labels[25, 25] == 0
    assert labels.max() == 1
    assert not cut(np.zeros((5, 7), bool), [(2, 2)]).any()
    assert cut(np.ones((1, 1), bool), [(0, 0)]).tolist() == [[1]]
