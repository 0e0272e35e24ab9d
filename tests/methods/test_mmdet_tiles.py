"""Images cut into tiles for a detector: every instance comes out once, and whole; most images are not cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.api import Instances, ObjectStatistics, Sample, Task, UsageError
from bench.rle import decode, encode_masks
from methods._mmdet_tiles import Tiling, in_tiles, merged
from methods._windows import Window, window_of_instances, window_of_mask, window_of_sample
from methods.mask_rcnn import MaskRCNN


def perfect(tile):
    """What a detector without fault finds: the grey level is the number of the cell."""
    labels = tile[..., 0]
    return Instances.from_label_map(labels, scores={int(i): 0.9 for i in np.unique(labels) if i})


def picture(labels):
    return np.repeat(labels.astype(np.uint8)[..., None], 3, axis=2)


def found_in(labels, side, overlap):
    return in_tiles(picture(labels), perfect, Tiling(side, overlap))


def masks_of(instances):
    return sorted(instances.mask(i).tobytes() for i in range(len(instances)))


def same_as_whole(labels, found):
    return masks_of(found) == masks_of(Instances.from_label_map(labels))


# -- windows ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_window_of_a_mask_is_the_mask_drawn_and_cut(data):
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width)))
    mask = mask.reshape(height, width)
    top, left = data.draw(st.integers(-4, 8)), data.draw(st.integers(-4, 8))
    window = Window(top, left, top + data.draw(st.integers(1, 12)), left + data.draw(st.integers(1, 12)))
    wide = np.pad(mask, 30)
    expected = wide[30 + top : 30 + window.bottom, 30 + left : 30 + window.right]
    counts = window_of_mask(encode_masks(mask[None])[0], height, width, window)
    np.testing.assert_array_equal(decode(counts, window.height, window.width), expected)
    assert counts == encode_masks(expected[None])[0]


def test_a_window_of_a_sample_keeps_what_lies_in_it():
    labels = np.zeros((20, 30), np.int32)
    labels[2:6, 2:6], labels[8:14, 10:20], labels[15:19, 25:29] = 1, 2, 3
    image = np.arange(600, dtype=np.uint16).reshape(20, 30)
    truth = replace(Instances.from_label_map(labels), class_ids=np.array([0, 1, 2]), crowd=np.array([0, 0, 1], bool))
    part = window_of_sample(Sample("a", image, truth), Window(7, 12, 20, 30))
    np.testing.assert_array_equal(part.image, image[7:20, 12:30])
    np.testing.assert_array_equal(
        part.instances.to_label_map("index"),
        (labels[7:20, 12:30] > 0) * np.array(np.maximum(labels[7:20, 12:30] - 1, 0)),
    )
    assert part.instances.class_ids.tolist() == [1, 2]
    assert part.instances.crowd.tolist() == [False, True]


def test_a_window_without_cells_is_an_image_without_cells():
    truth = Instances.from_masks(np.ones((1, 4, 4), bool))
    assert len(window_of_instances(truth, Window(4, 4, 8, 8))) == 0


# -- merging ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", range(20, 44))
def test_a_cell_across_the_seam_comes_out_once(column):
    labels = np.zeros((30, 64), np.int32)
    labels[8:16, column - 4 : column + 4] = 1
    found = found_in(labels, 40, 16)
    assert len(found) == 1
    assert same_as_whole(labels, found)


@pytest.mark.parametrize("column", range(20, 44))
def test_two_touching_cells_at_the_seam_stay_two(column):
    labels = np.zeros((30, 64), np.int32)
    labels[8:16, column - 6 : column], labels[8:16, column : column + 6] = 1, 2
    assert same_as_whole(labels, found_in(labels, 40, 16))


def test_a_cell_larger_than_the_overlap_and_than_a_tile_is_joined():
    labels = np.zeros((90, 100), np.int32)
    labels[3:80, 5:95] = 1
    labels[82:88, 40:60] = 2
    assert same_as_whole(labels, found_in(labels, 32, 6))


def test_halves_are_joined_with_the_higher_score():
    left, right = Window(0, 0, 10, 20), Window(0, 14, 10, 34)
    mask = np.zeros((10, 34), bool)
    mask[2:8, 4:30] = True
    pieces = [
        (left, Instances.from_masks(mask[None, :, :20], scores=[0.6])),
        (right, Instances.from_masks(mask[None, :, 14:], scores=[0.8])),
    ]
    found = merged(pieces, 10, 34)
    np.testing.assert_array_equal(found.to_masks(), mask[None])
    assert found.scores.tolist() == [0.8]


def test_the_copy_further_from_the_edge_of_its_tile_is_kept():
    """Two tiles see the cell whole, differently: the one in which it is nearer to the middle is believed."""
    left, right = Window(0, 0, 10, 24), Window(0, 8, 10, 34)
    near, far = np.zeros((2, 10, 34), bool)
    near[2:6, 14:20], far[2:7, 14:20] = True, True
    found = merged(
        [
            (left, Instances.from_masks(near[None, :, :24], scores=[0.99])),  # 4 pixels from its edge
            (right, Instances.from_masks(far[None, :, 8:], scores=[0.5])),  # 6 pixels from its edge
        ],
        10,
        34,
    )
    np.testing.assert_array_equal(found.to_masks(), far[None])
    assert found.scores.tolist() == [0.5]


def test_a_crude_sliver_of_a_cell_that_the_next_tile_sees_whole_is_dropped():
    left, right = Window(0, 0, 12, 20), Window(0, 14, 12, 34)
    cell, sliver = np.zeros((2, 12, 34), bool)
    cell[2:10, 17:28], sliver[6:10, 18:20] = True, True
    pieces = [
        (left, Instances.from_masks(sliver[None, :, :20], scores=[0.3])),  # a third of what there is to see
        (right, Instances.from_masks(cell[None, :, 14:], scores=[0.9])),
    ]
    np.testing.assert_array_equal(merged(pieces, 12, 34).to_masks(), cell[None])
    other_class = [(left, replace(pieces[0][1], class_ids=np.array([1]))), pieces[1]]
    assert len(merged(other_class, 12, 34)) == 2


def test_what_one_tile_tells_apart_stays_apart():
    """The right tile sees one cell where the left one sees two: the best agreement is one, the other stays."""
    left, right = Window(0, 0, 10, 20), Window(0, 8, 10, 28)
    upper, lower = np.zeros((2, 10, 28), bool)
    upper[1:7, 10:18], lower[7:10, 10:18] = True, True
    pieces = [
        (left, Instances.from_masks(np.stack([upper, lower])[:, :, :20], scores=[0.9, 0.8])),
        (right, Instances.from_masks((upper | lower)[None, :, 8:], scores=[0.7])),
    ]
    found = merged(pieces, 10, 28)
    assert len(found) == 2
    assert lower.tobytes() in masks_of(found)


def test_tiles_without_cells_are_an_image_without_cells():
    found = found_in(np.zeros((50, 50), np.int32), 30, 8)
    assert len(found) == 0
    assert found.shape == (50, 50)
    assert found.scores is not None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_wherever_the_seams_lie_cells_come_out_once_and_whole(data):
    """Every cell touches its neighbours, some are background; tiles of any size and overlap."""
    height, width = data.draw(st.integers(10, 60), "height"), data.draw(st.integers(10, 60), "width")
    cuts = [sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=4))) for n in (height, width)]
    rows, columns = (np.searchsorted(c, np.arange(n), side="right") for c, n in zip(cuts, (height, width), strict=True))
    labels = rows[:, None] * (len(cuts[1]) + 1) + columns[None] + 1
    hidden = data.draw(st.sets(st.integers(1, int(labels.max()))), "background")
    labels[np.isin(labels, list(hidden))] = 0
    side = data.draw(st.integers(6, 40), "side")
    overlap = data.draw(st.integers(1, side // 2), "overlap")
    assert same_as_whole(labels, found_in(labels, side, overlap))


# -- which images are cut -----------------------------------------------------------------------------


SMALL = ObjectStatistics(10, 14, 22, 1.6, 900, 2000)


def method(task, **given):
    return MaskRCNN(task, MaskRCNN.make_params(overrides=given))


def test_large_images_of_small_cells_are_cut_so_that_the_network_sees_their_own_pixels():
    made = method(Task(objects=SMALL, image_shape=(3000, 4000)))
    tiling = made.tiling(3000, 4000)
    assert tiling == Tiling(800, 28)  # 22 px times the root of 1.6, rounded up
    assert made.resize_factor() == 1.0
    assert made.object_sizes() == (10, 14, 22)  # anchors follow


def test_a_method_that_enlarges_small_cells_cuts_what_would_not_fit_into_memory():
    from methods.mnc import MNC

    made = MNC(Task(objects=SMALL, image_shape=(4000, 4000)))
    assert made.tiling(4000, 4000) == made.tiling(4000, 3000) == Tiling(1024, 28)
    assert made.resize_factor() == pytest.approx(1.6, abs=0.01)  # 10 px become 16, a cell of its feature map
    assert made.tiling(1024, 1000) is None
    assert MNC(Task(objects=SMALL, image_shape=(1200, 1200))).tiling(1200, 1200) is None


def test_an_input_size_that_is_asked_for_is_not_cut():
    made = method(Task(objects=SMALL, image_shape=(4000, 4000)), image_scale="4000,4000")
    assert made.tiling(4000, 4000) is None


def test_large_images_of_large_cells_are_not_cut():
    large = ObjectStatistics(60, 90, 150, 1.6, 90, 200)
    assert method(Task(objects=large, image_shape=(3000, 4000))).tiling(3000, 4000) is None


def test_nothing_is_known_nothing_is_cut():
    assert method(Task()).tiling(9000, 9000) is None


def test_one_large_image_among_small_ones_is_seen_at_their_resolution():
    made = method(Task(objects=SMALL, image_shape=(512, 512)))
    assert made.tiling(512, 512) is None
    assert made.resize_factor() == 800 / 512
    assert made.tiling(4000, 4000).side == 512


def test_a_tile_that_is_asked_for_is_taken():
    made = method(Task(objects=SMALL, image_shape=(520, 704)), tile="256", tile_overlap="64")
    assert made.tiling(520, 704) == Tiling(256, 64)
    assert made.tiling(256, 200) is None
    assert method(Task(objects=SMALL, image_shape=(3000, 4000)), tile="0").tiling(3000, 4000) is None


@pytest.mark.parametrize("given", [{"tile": 1}, {"tile": -3}, {"tile": 64, "tile_overlap": 64}, {"tile_overlap": -2}])
def test_tiles_that_cannot_be_are_one_clear_line(given):
    with pytest.raises(UsageError, match="tile"):
        method(Task(objects=SMALL, image_shape=(3000, 4000)), **given)


def detectors():
    from bench.registry import registry
    from methods._mmdet import MMDetMethod

    return sorted(name for name, entry in registry().methods.items() if issubclass(entry.method, MMDetMethod))


@pytest.mark.parametrize("name", detectors())
def test_images_of_the_papers_are_seen_whole_by_every_method(name):
    from bench.data import load_card
    from bench.registry import find_method

    entry = find_method(name)
    assert {"tile", "tile_overlap"} <= set(vars(entry.method.make_params(entry.variant)))
    shapes = {"bbbc039": (520, 696), "dsb2018": (256, 256), "usiigaci": (1022, 1024)}
    tasks = [Task(objects=ObjectStatistics(**vars_of(load_card(card))), image_shape=s) for card, s in shapes.items()]
    # Sizes of objects as in the papers' descriptions; LIVECell's and Sartorius' smallest, NEURAL's, EVICAN's nuclei.
    tasks += [
        Task(objects=ObjectStatistics(9, 18, 40, 2.5, 300, 3000), image_shape=(520, 704)),
        Task(objects=ObjectStatistics(12, 20, 60, 4.0, 30, 800), image_shape=(520, 704)),
        Task(objects=ObjectStatistics(20, 40, 90, 3.0, 30, 100), image_shape=(512, 640)),
        Task(objects=ObjectStatistics(22, 60, 150, 2.0, 6, 100), image_shape=(1038, 1388)),
    ]
    for task in tasks:
        for schedule in (None, *entry.method.schedules.values()):
            made = entry.method(task, entry.method.make_params(entry.variant, schedule=schedule))
            assert made.tiling(*task.image_shape) is None, task
    nuclei = entry.method(tasks[1], entry.method.make_params(entry.variant))
    assert nuclei.tiling(1040, 1388) is None  # the largest of dsb2018, of which most are 256 x 256


def vars_of(card):
    import msgspec

    return msgspec.to_builtins(card.objects)


# -- a method -----------------------------------------------------------------------------------------


class Perfect(MaskRCNN):
    """Finds what the grey levels say, and keeps what it was shown."""

    def load_nothing(self):
        self._network, self.shown = object(), []
        return self

    def predict_whole(self, images):
        self.shown += [image.shape[:2] for image in images]
        return [perfect(image if image.ndim == 3 else image[..., None]) for image in images]


def perfect_method(**given):
    task = Task(objects=ObjectStatistics(10, 14, 22, 1.6, 9, 20), image_shape=(64, 64), max_detections=6)
    return Perfect(task, Perfect.make_params(overrides=given)).load_nothing()


def cells(height, width, step=20):
    labels = np.zeros((height, width), np.uint8)
    for number, (row, column) in enumerate(np.ndindex(height // step, width // step), 1):
        labels[row * step + 3 : row * step + 17, column * step + 3 : column * step + 17] = number
    return labels


def test_one_tile_that_covers_the_image_is_the_whole_image():
    labels = cells(40, 60)
    whole = perfect_method(tile=0).predict(labels)
    made = perfect_method(tile=60)
    assert made.predict(labels) == whole
    assert made.shown == [(40, 60)]


def test_images_of_a_batch_are_cut_or_not_each_for_itself():
    made = perfect_method(tile=48, tile_overlap=20)
    small, large = cells(40, 40), cells(40, 60)
    found = made.predict_batch([small, large, small])
    assert made.shown == [(40, 40), (40, 40), (40, 48), (40, 48)]
    assert [len(one) for one in found] == [4, 6, 4]
    assert same_as_whole(large, found[1])


def test_no_more_than_the_cap_comes_out_of_all_tiles_together():
    assert len(perfect_method(tile=48, tile_overlap=20).predict(cells(80, 80))) == 6


def test_tiles_of_a_16_bit_image_share_its_contrast():
    """Stretched one by one, a dark tile would be as bright as a bright one."""
    seen = []

    class Levels(Perfect):
        def predict_whole(self, images):
            seen.extend(int(image.max()) for image in images)
            return [Instances.empty(*image.shape[:2], scored=True) for image in images]

    image = np.zeros((40, 80), np.uint16)
    image[:, :40], image[10:20, 50:60] = 1000, 4000
    made = Levels(Task(), Levels.make_params(overrides={"tile": 40, "tile_overlap": 0})).load_nothing()
    made.predict(image)
    assert seen == [64, 255]  # 1000 of 4000


def test_training_crops_have_the_size_of_a_tile_and_may_be_empty():
    labels = cells(200, 300)
    labels[:, 100:] = 0
    sample = Sample("one", labels, Instances.from_label_map(labels))
    made = perfect_method(tile=64, tile_overlap=10)
    crops = [made._crop(sample, np.random.default_rng(seed)) for seed in range(40)]
    assert {crop.image.shape for crop in crops} == {(64, 64, 3)}
    assert min(len(crop.instances) for crop in crops) == 0
    for crop in crops:
        shown = [np.unique(crop.image[..., 0][crop.instances.mask(i)]).size for i in range(len(crop.instances))]
        assert shown == [1] * len(crop.instances)
        assert (crop.image[..., 0] > 0).sum() == crop.instances.areas.sum()
    small = Sample("two", labels[:64, :64], Instances.empty(64, 64))
    assert made._crop(small, np.random.default_rng(0)) is small


# -- real cells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "overlap"), [(256, 64), (300, 20), (512, 128)])
def test_real_cells_with_thin_protrusions_come_out_once_and_whole(shared_data, side, overlap):
    """Of the connected cells every one, to the pixel; a cell in pieces may fall apart at a seam."""
    from scipy import ndimage
    from skimage.io import imread

    labels = imread(sorted((shared_data / "usiigaci").glob("set*/instances_ids.png"))[0])
    assert 20 < labels.max() < 256
    connected = {i for i in np.unique(labels) if i and ndimage.label(labels == i, np.ones((3, 3)))[1] == 1}
    assert len(connected) > 20
    found = set(masks_of(found_in(labels, side, overlap)))
    assert {(labels == i).tobytes() for i in connected} <= found
    pieces = len(np.unique(labels)) - 1 - len(connected)
    assert len(found) <= len(connected) + 3 * pieces


@pytest.mark.parametrize("name", detectors())
def test_bench_show_explains_the_tiles_with_every_method(name):
    from bench.engine.describe import describe

    facts = describe(name)
    explained = [line.partition(":")[0] for line in facts["what the settings mean"]]
    assert explained == list(facts["settings"])  # each once, in the order of the settings
    assert facts["settings"]["tile"] == -1
