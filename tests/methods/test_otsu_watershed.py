"""The classical baseline: bright and dark objects, any depth and colour, nothing where there is nothing."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bench.api import Instances, ObjectStatistics, Task, UsageError
from methods.otsu_watershed import OtsuWatershed, otsu_sides, slope


def method(task=None, **overrides):
    return OtsuWatershed(task or Task(), OtsuWatershed.make_params("", overrides))


def disks(shape=(120, 150), circles=((30, 30, 12), (30, 54, 12), (85, 40, 15), (80, 110, 9))):
    rows, columns = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for label, (r, c, radius) in enumerate(circles, 1):
        labels[((rows - r) ** 2 + (columns - c) ** 2 <= radius**2) & (labels == 0)] = label
    return labels


def picture(labels, object_level=180.0, background=60.0, noise=6.0, seed=0):
    rng = np.random.default_rng(seed)
    clean = np.where(labels > 0, object_level, background)
    return np.clip(ndimage.gaussian_filter(clean, 0.7) + rng.normal(0, noise, labels.shape), 0, 255).astype(np.uint8)


def panoptic_quality(truth, found):
    """PQ at IoU above 1/2, from its definition."""
    a, b = truth.to_masks(), found.to_masks()
    ious = [(x & y).sum() / (x | y).sum() for x in a for y in b if (x & y).sum() * 2 > (x | y).sum()]
    return sum(ious) / ((len(a) + len(b)) / 2) if len(a) + len(b) else 1.0


def test_listing_it_imports_nothing_heavy():
    code = "import sys, methods.otsu_watershed; print([m for m in ('torch', 'scipy', 'skimage') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("object_level", "background"), [(180, 60), (60, 180)], ids=["bright", "dark"])
@pytest.mark.parametrize("convert", ["8 bit", "16 bit", "colour", "alpha"])
def test_touching_disks_are_found_whatever_the_format(object_level, background, convert):
    labels = disks()
    image = picture(labels, object_level, background)
    if convert == "16 bit":
        image = image.astype(np.uint16) * 130 + 700
    elif convert != "8 bit":
        image = np.repeat(image[..., None], 3, axis=2)
        if convert == "alpha":
            image = np.concatenate([image, np.full((*labels.shape, 1), 255, np.uint8)], axis=2)
    image.flags.writeable = False
    found = method().predict(image)
    assert len(found) == 4
    assert found.scores is None
    assert panoptic_quality(Instances.from_label_map(labels), found) > 0.9


def test_the_user_may_say_which_side_the_objects_are_on():
    image = picture(disks())
    assert len(method(objects="bright").predict(image)) == 4
    (background,) = method(objects="dark", contrast=0).predict(image).to_masks()
    assert background[0, 0]


def test_objects_that_cover_most_of_the_image_are_not_taken_for_background():
    rng = np.random.default_rng(0)
    rows, columns = np.indices((120, 120))
    cells = (rows % 40 > 6) & (columns % 40 > 6)  # 68 % of the pixels
    texture = ndimage.gaussian_filter(rng.normal(0, 1, cells.shape), 2) * 150
    image = np.clip(np.where(cells, 150 + texture, 40 + rng.normal(0, 3, cells.shape)), 0, 255).astype(np.uint8)
    found = method(summit_depth=4).predict(image)
    assert len(found) == 9
    assert found.areas.sum() > 0.6 * cells.size


def test_a_sloping_background_is_taken_out():
    labels = disks()
    rows, columns = np.indices(labels.shape)
    image = picture(labels, 110, 60, 3) + (0.8 * columns + 0.002 * rows**2).astype(np.uint8)  # a rise of 120
    assert panoptic_quality(Instances.from_label_map(labels), method().predict(image)) > 0.85


def test_the_slope_is_a_surface_of_second_order_fitted_to_the_background_only():
    rows, columns = np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 50), indexing="ij")
    surface = 3 - rows + 2 * columns + 0.5 * rows**2 - rows * columns + 0.25 * columns**2
    background = np.ones(surface.shape, bool)
    background[10:20, 10:30] = False
    levels = np.where(background, surface, 99).astype(np.float32)
    np.testing.assert_allclose(slope(levels, background), surface, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 41)])
def test_an_image_without_contrast_holds_nothing(dtype, shape):
    assert len(method().predict(np.full(shape, 77, dtype))) == 0
    assert otsu_sides(np.zeros(shape, np.float32)) is None


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_noise_alone_holds_nothing(seed):
    noise = np.random.default_rng(seed).normal(1000, 80, (90, 110)).astype(np.uint16)
    assert len(method().predict(noise)) == 0


def test_one_cell():
    labels = disks(circles=((60, 70, 14),))
    found = method().predict(picture(labels))
    assert len(found) == 1
    assert panoptic_quality(Instances.from_label_map(labels), found) > 0.9


def test_no_more_than_the_task_allows_the_largest_first():
    found = method(Task(max_detections=2)).predict(picture(disks()))
    assert len(found) == 2
    assert found.areas.min() > 400


def test_in_phase_contrast_cells_are_where_the_grey_level_varies():
    rng = np.random.default_rng(1)
    labels = disks((160, 160), ((45, 45, 22), (110, 110, 26)))
    image = np.clip(120 + np.where(labels > 0, 40, 3) * rng.normal(0, 1, labels.shape), 0, 255).astype(np.uint8)
    by_variation = method(Task(modality="phase contrast")).predict(image)
    assert len(by_variation) == 2
    assert panoptic_quality(Instances.from_label_map(labels), by_variation) > 0.75
    by_intensity = method(Task(modality="phase contrast"), feature="intensity").predict(image)
    assert panoptic_quality(Instances.from_label_map(labels), by_intensity) < 0.2


def test_paring_takes_off_a_width_but_not_at_the_edge_of_the_image():
    from methods.otsu_watershed import pared

    mask = np.zeros((9, 12), bool)
    mask[:, :7] = True
    assert (pared(mask, 2) == (np.arange(12) < 5)).all()
    assert pared(np.ones((3, 3), bool), 2).all()
    assert not pared(np.zeros((3, 3), bool), 2).any()


def test_the_window_follows_the_objects():
    large = ObjectStatistics(40.0, 80.0, 120.0, 2.0, 5.0, 9)
    assert method(Task(modality="DIC", objects=large))._window == 10.0
    assert method(Task(modality="DIC"))._window == 4.0
    assert method(Task(modality="DIC", objects=large), window=3)._window == 3.0


@pytest.mark.parametrize(
    "wrong", [{"feature": "colour"}, {"objects": "gray"}, {"smoothing": "-1"}, {"contrast": "-0.1"}]
)
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        OtsuWatershed.make_params("", wrong)


def test_every_setting_is_explained():
    for field in dataclasses.fields(OtsuWatershed.Params):
        assert f"            {field.name}: " in OtsuWatershed.Params.__doc__


def test_it_is_a_floor_that_means_something_on_real_nuclei(shared_data):
    """PQ on three 16-bit images of Hoechst-stained nuclei: far above nothing, below what a trained network reaches."""
    from skimage import io as pictures
    from skimage.measure import label

    qualities = []
    for name in ("F22_s6", "N12_s9"):
        (image,) = (shared_data / "bbbc039" / "images").glob(f"*{name}*")
        (mask,) = (shared_data / "bbbc039" / "masks").glob(f"*{name}*")
        truth = Instances.from_label_map(label(pictures.imread(mask)[..., 0], background=0))
        found = method().predict(pictures.imread(image))
        crop = [Instances.from_label_map(i.to_label_map("index")[:260, :348]) for i in (truth, found)]
        qualities.append(panoptic_quality(*crop))
    assert 0.6 < np.mean(qualities) < 0.97, qualities
