"""Crops and augmentation: image and targets move together, exactly as declared, and a draw is reproducible."""

import math
import random
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from methods._augmentation import Augmentation  # noqa: E402
from methods._crops import LARGEST_LABEL, random_crop, reflected_window  # noqa: E402

EVERY_SYMMETRY = Augmentation(flip_horizontal=True, flip_vertical=True, right_angles=True)
EVERYTHING = Augmentation(flip_horizontal=True, flip_vertical=True, right_angles=True, rotation=180.0, zoom=0.3)
AUGMENTATIONS = st.builds(
    Augmentation,
    flip_horizontal=st.booleans(),
    flip_vertical=st.booleans(),
    right_angles=st.booleans(),
    rotation=st.sampled_from((0.0, 15.0, 180.0)),
    zoom=st.sampled_from((0.0, 0.3, 0.9)),
)
SEEDS = st.integers(0, 2**32 - 1)


def numbered(height, width):
    """Two arrays in which every pixel knows where it is."""
    ids = np.arange(height * width, dtype=np.int32).reshape(height, width)
    return {"image": ids[None].astype(np.float32), "labels": ids}


def cells(seed, height=60, width=70, dtype=np.int32):
    """A label map of blocks with ids from the whole range of a type, and background."""
    rng = np.random.default_rng(seed)
    highest = 1 if dtype is bool else min(np.iinfo(dtype).max, LARGEST_LABEL)
    blocks = rng.choice([0, 1, highest, highest // 2, highest // 3], (height // 5 + 1, width // 5 + 1))
    return blocks.repeat(5, 0).repeat(5, 1)[:height, :width].astype(dtype)


class Told:
    """Stands for a NumPy generator, but every choice is told."""

    def __init__(self, place, angle=0.0, scale=1.0):
        self._whole, self._free = list(place), [angle, scale]

    def integers(self, _):
        return self._whole.pop(0)

    def uniform(self, low, high):
        assert low <= self._free[0] <= high
        return self._free.pop(0)


# -- where the crop lies ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), SEEDS)
def test_image_and_targets_stay_aligned_at_any_size(height, width, size, seed):
    arrays = numbered(height, width)
    crop = random_crop(arrays, size, EVERY_SYMMETRY, np.random.default_rng(seed))
    again = random_crop(arrays, size, EVERY_SYMMETRY, np.random.default_rng(seed))
    assert crop["image"].shape == (1, size, size)
    assert crop["labels"].dtype == np.int32
    assert crop["image"].flags.c_contiguous
    np.testing.assert_array_equal(crop["image"][0], crop["labels"])
    np.testing.assert_array_equal(crop["labels"], again["labels"])


def test_all_places_and_all_eight_symmetries_occur_and_each_is_a_window_of_the_image():
    arrays, size = numbered(5, 6), 4
    windows = {}
    for row in range(2):
        for column in range(3):
            window = arrays["labels"][row : row + size, column : column + size]
            for quarters in range(4):
                turned = np.rot90(window, quarters)
                windows[turned.tobytes()] = windows[turned[:, ::-1].copy().tobytes()] = (row, column)
    seen = {random_crop(arrays, size, EVERY_SYMMETRY, np.random.default_rng(n))["labels"].tobytes() for n in range(800)}
    assert seen == set(windows)


def test_without_augmentation_a_crop_of_the_whole_is_the_image():
    arrays = numbered(8, 8)
    crop = random_crop(arrays, 8, Augmentation(), np.random.default_rng(0))
    np.testing.assert_array_equal(crop["labels"], arrays["labels"])
    crop["labels"][:] = 0
    assert arrays["labels"].any(), "the crop may be changed, the image is not"


@pytest.mark.parametrize(("flip", "axis"), [("flip_horizontal", 1), ("flip_vertical", 0)])
def test_a_flip_exchanges_its_two_sides_only(flip, axis):
    arrays = numbered(4, 4)
    crops = {
        random_crop(arrays, 4, Augmentation(**{flip: True}), np.random.default_rng(n))["labels"].tobytes()
        for n in range(20)
    }
    assert crops == {arrays["labels"].tobytes(), np.flip(arrays["labels"], axis).tobytes()}


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(-20, 20), st.integers(-20, 20), st.integers(1, 30))
def test_windows_beyond_the_edge_are_mirrored_as_numpy_pads(height, width, row, column, side):
    image = np.arange(height * width).reshape(height, width)
    padded = np.pad(image, 60, mode="symmetric")
    expected = padded[60 + row : 60 + row + side, 60 + column : 60 + column + side]
    np.testing.assert_array_equal(reflected_window(image, row, column, side), expected)


@pytest.mark.parametrize("augmentation", [EVERY_SYMMETRY, EVERYTHING], ids=["symmetries", "everything"])
def test_of_a_file_only_the_window_is_read(augmentation, tmp_path):
    side = 20_000
    np.lib.format.open_memmap(tmp_path / "image.npy", mode="w+", dtype=np.float32, shape=(1, side, side)).flush()
    image = np.load(tmp_path / "image.npy", mmap_mode="r")
    assert image.nbytes == 1_600_000_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that are read-only
        random_crop({"image": image}, 64, augmentation, np.random.default_rng(0))  # what is imported first
        tracemalloc.start()
        try:
            for seed in range(5):
                random_crop({"image": image}, 64, augmentation, np.random.default_rng(seed))
            corner = Told((0, 0), 45.0, 0.7)
            random_crop({"image": image}, 64, Augmentation(rotation=45.0, zoom=0.3), corner)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 2_000_000, f"{peak} bytes"


# -- what happens to the pixels -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "angle", "scale"),
    [
        ((20, 30), 30.0, 1.0),
        ((20, 30), -77.0, 1.2),
        ((20, 30), 0.0, 1.1),
        ((20, 30), 179.0, 0.8),
        ((0, 0), 45.0, 0.7),  # reaches beyond the upper left corner
        ((52, 72), 10.0, 0.75),  # and beyond the lower right one
    ],
)
def test_turning_and_scaling_agree_with_scipy(place, angle, scale):
    rng = np.random.default_rng(0)
    size, beyond = 48, 100
    arrays = {
        "image": ndimage.gaussian_filter(rng.random((2, 100, 120)), (0, 1, 1)).astype(np.float32),
        "labels": cells(1, 100, 120),
    }
    crop = random_crop(arrays, size, Augmentation(rotation=180.0, zoom=0.3), Told(place, angle, scale))
    turn = math.radians(angle)
    pixels = np.indices((size, size)) - (size - 1) / 2
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    read = np.einsum("ij,jrc->irc", rotation, pixels) / scale + (np.array(place) + (size - 1) / 2)[:, None, None]
    for plane, found in zip([*arrays["image"], arrays["labels"]], [*crop["image"], crop["labels"]], strict=True):
        order = 0 if plane.dtype == np.int32 else 1
        padded = np.pad(plane, beyond, mode="symmetric")
        expected = ndimage.map_coordinates(padded, read + beyond, order=order)
        if order:
            np.testing.assert_allclose(found, expected, atol=1e-4)
        else:  # a place halfway between two pixels may be rounded to either
            assert (found != expected).mean() <= 0.001


@pytest.mark.parametrize(("rotation", "zoom"), [(180.0, 0.0), (0.0, 0.3), (180.0, 0.3)])
def test_free_rotation_and_zoom_move_pixels_rigidly_and_labels_with_them(rotation, zoom):
    rows, columns = np.indices((200, 220)).astype(np.float32)
    arrays = {"place": np.stack([rows, columns]), "labels": (columns > 110).astype(np.uint8)}
    augmentation = Augmentation(rotation=rotation, zoom=zoom)
    for seed in range(5):
        crop = random_crop(arrays, 48, augmentation, np.random.default_rng(seed))
        assert crop["labels"].dtype == np.uint8
        steps = np.stack([np.gradient(plane)[axis] for plane in crop["place"] for axis in (0, 1)])
        inside = steps[:, 2:-2, 2:-2]
        jacobian = np.median(inside, axis=(1, 2)).reshape(2, 2)
        scale = np.sqrt(abs(np.linalg.det(jacobian)))
        np.testing.assert_allclose(jacobian.T @ jacobian, scale**2 * np.eye(2), atol=0.02)
        assert 1 / (1 + zoom) - 0.01 <= scale <= 1 / (1 - zoom) + 0.01
        sure = abs(crop["place"][1] - 110.5) > 1.5
        np.testing.assert_array_equal(crop["labels"][sure], (crop["place"][1] > 110.5)[sure])


@settings(max_examples=60, deadline=None)
@given(AUGMENTATIONS, SEEDS, st.sampled_from((bool, np.uint8, np.int16, np.uint16, np.int32, np.int64)))
def test_labels_gain_no_value(augmentation, seed, dtype):
    labels = cells(seed, dtype=dtype)
    crop = random_crop({"labels": labels}, 40, augmentation, np.random.default_rng(seed))["labels"]
    assert crop.dtype == labels.dtype
    assert set(np.unique(crop)) <= set(np.unique(labels))


@settings(max_examples=60, deadline=None)
@given(AUGMENTATIONS, SEEDS, st.integers(1, 50), st.integers(1, 50))
def test_a_map_made_of_labels_stays_aligned_with_them(augmentation, seed, height, width):
    """Of the four pixels around a place the nearest, whose label is taken, has a quarter of the say or more."""
    labels = cells(seed, height, width, np.uint8)
    weight = np.where(labels > 0, np.float32(3), np.float32(1))
    arrays = {"weight": np.stack([weight, 4 - weight]), "labels": labels[None]}
    crop = random_crop(arrays, 40, augmentation, np.random.default_rng(seed))
    expected = np.where(crop["labels"][0] > 0, 3, 1)
    assert abs(crop["weight"][0] - expected).max() <= 1.5 + 1e-3
    np.testing.assert_allclose(crop["weight"][0] + crop["weight"][1], 4, atol=1e-4)


@pytest.mark.parametrize("shape", [(30, 40), (3, 30, 40), (2, 3, 30, 40)])
def test_arrays_of_any_number_of_dimensions_are_cut_alike(shape):
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    crop = random_crop({"image": image}, 16, EVERYTHING, np.random.default_rng(3))["image"]
    assert crop.shape == (*shape[:-2], 16, 16)
    for index in np.ndindex(*shape[:-2]):
        alone = random_crop({"image": image[index]}, 16, EVERYTHING, np.random.default_rng(3))["image"]
        np.testing.assert_array_equal(crop[index], alone)


def test_labels_too_high_to_stay_exact_are_refused_where_they_would_be_turned():
    arrays = {"labels": np.full((8, 8), LARGEST_LABEL + 1)}
    crop = random_crop(arrays, 8, EVERY_SYMMETRY, np.random.default_rng(0))
    np.testing.assert_array_equal(crop["labels"], arrays["labels"])
    with pytest.raises(ValueError, match="labels: whole numbers above 16777216"):
        random_crop(arrays, 8, EVERYTHING, np.random.default_rng(0))


# -- chance -------------------------------------------------------------------------------------------


def test_chance_comes_from_the_generator_alone_and_from_nowhere_else():
    arrays = {"image": np.random.default_rng(0).random((90, 80), dtype=np.float32), "labels": cells(0, 90, 80)}

    def crops(seed):
        rng = np.random.default_rng(seed)
        return [random_crop(arrays, 48, EVERYTHING, rng) for _ in range(5)]

    first = crops(7)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    states = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        again = crops(7)
    finally:
        torch.set_num_threads(threads)
    assert states == (random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes())
    for one, other in zip(first, again, strict=True):
        assert all(one[name].tobytes() == other[name].tobytes() for name in arrays)
    assert len({crop["image"].tobytes() for crop in first + crops(8)}) == 10


@pytest.mark.parametrize("wrong", [{"rotation": -1.0}, {"zoom": -0.1}, {"zoom": 1.0}], ids=str)
def test_an_augmentation_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)
