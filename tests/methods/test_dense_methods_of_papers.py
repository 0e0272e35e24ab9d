"""MU-Lux-CZ, CALT-US and Instance-U-Net: declarations, weights by count, targets, perfect maps, training."""

import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pytest

from bench.api import FitContext, Instances, ObjectStatistics, Sample, Schedule, Task, UsageError
from methods._grey_levels import between_percentiles, equalised, evenly_lit, gray8
from methods.calt_us import CALTUS
from methods.instance_unet import InstanceUNet
from methods.mu_lux_cz import RECIPES, MULuxCZ, recipe_for
from methods.unet import UNetMethod

METHODS = (MULuxCZ, CALTUS, InstanceUNet)
ALL = [(method, variant) for method in METHODS for variant in method.variants]
NAMES = [method.full_name(variant) for method, variant in ALL]
SMALL = {
    MULuxCZ: {"widths": (4, 8, 8), "crop": 32},
    CALTUS: {"widths": (4, 8, 8), "crop": 32},
    InstanceUNet: {"widths": (4, 8, 8), "crop": 32, "rpn_channels": 4},
}


def make(method, variant=None, task=None, **settings):
    variant = next(iter(method.variants)) if variant is None else variant
    return method(task or Task(), method.make_params(variant, settings))


def two_cells(shape=(64, 80)):
    labels = np.zeros(shape, np.int32)
    labels[10:30, 12:34], labels[10:30, 36:60] = 1, 2
    return labels


def sample(labels, dtype=np.uint8):
    image = np.where(labels > 0, 180, 60).astype(dtype) * (1 if dtype == np.uint8 else 200)
    return Sample("a", image.astype(dtype), Instances.from_label_map(labels))


# -- what they declare --------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["mu_lux_cz", "calt_us", "instance_unet"])
def test_listing_it_imports_nothing_heavy(module):
    heavy = ("torch", "mmengine", "scipy", "skimage")
    code = f"import sys, methods.{module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_every_setting_is_explained_and_every_schedule_is_there(method):
    for field in dataclasses.fields(method.Params):
        documented = method.Params.__doc__ + method.__mro__[1].Params.__doc__
        assert f"            {field.name}: " in documented, field.name
    assert set(method.schedules) == {"paper", "short", "smoke"}
    assert method.deviations
    assert not method.scored


@pytest.mark.parametrize("method", [*METHODS, UNetMethod], ids=lambda m: m.name)
def test_what_acts_after_the_network_is_a_setting(method):
    assert set(method.after_network) <= {field.name for field in dataclasses.fields(method.Params)}


def training_of(method, variant):
    params = dataclasses.asdict(method.make_params(variant))
    return {key: value for key, value in params.items() if key not in method.after_network}


def test_which_variants_share_a_training():
    assert training_of(CALTUS, "") == training_of(CALTUS, "th") == training_of(CALTUS, "wts")
    trainings = [training_of(InstanceUNet, variant) for variant in InstanceUNet.variants]
    assert len({str(t) for t in trainings}) == 4  # six rows
    assert training_of(InstanceUNet, "iu-bce") == training_of(InstanceUNet, "iuw-bce")
    assert training_of(InstanceUNet, "iu-bce-dice") == training_of(InstanceUNet, "iuw-bce-dice")
    assert training_of(UNetMethod, "shape") == training_of(UNetMethod, "shape-watershed")
    assert training_of(UNetMethod, "shape") != training_of(UNetMethod, "bce")


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        (MULuxCZ, {"recipe": "PhC"}),
        (MULuxCZ, {"post_processing": "round"}),
        (MULuxCZ, {"marker_threshold": "255"}),
        (MULuxCZ, {"opening": "0"}),
        (MULuxCZ, {"marker_share": "101"}),
        (CALTUS, {"decoder": "argmax"}),
        (CALTUS, {"turns": "3"}),
        (CALTUS, {"gap_radius": "-1"}),
        (CALTUS, {"low_percentile": "99.5"}),
        (InstanceUNet, {"loss": "focal"}),
        (InstanceUNet, {"widths": "8"}),
        (InstanceUNet, {"anchor_scales": ""}),
        (InstanceUNet, {"border_sigma": "0"}),
        (InstanceUNet, {"crop": "0"}),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(method, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        method.make_params(next(iter(method.variants)), wrong)


def test_a_watershed_without_proposals_is_refused():
    with pytest.raises(UsageError, match="proposals"):
        InstanceUNet.make_params("u-bce", {"decoder": "watershed"})


@pytest.mark.parametrize(
    ("modality", "recipe"),
    [
        ("DIC", "DIC-C2DH-HeLa"),
        ("differential interference contrast", "DIC-C2DH-HeLa"),
        ("phase contrast", "PhC-C2DL-PSC"),
        ("fluorescence", "Fluo-N2DH-SIM+"),
        ("unknown", "Fluo-N2DH-SIM+"),
    ],
)
def test_the_recipe_follows_the_modality_and_the_user(modality, recipe):
    assert recipe_for(modality) == recipe
    task = Task(modality=modality)
    found, published = make(MULuxCZ, task=task).recipe, RECIPES[recipe]
    assert found == dataclasses.replace(published, border=0)
    assert make(MULuxCZ, task=task, border=-1).recipe == published
    assert make(MULuxCZ, task=task, post_processing="circular", mask_threshold=99).recipe == dataclasses.replace(
        published, post_processing="circular", mask_threshold=99, border=0
    )


# -- networks -----------------------------------------------------------------------------------------


def count(network):
    return sum(p.numel() for p in network.parameters())


def convolutions(*channels):
    """Weights and biases of 3 x 3 convolutions from each number of channels to the next."""
    return sum(9 * i * o + o for i, o in itertools.pairwise(channels))


def test_mu_lux_cz_has_the_weights_of_its_description():
    torch = pytest.importorskip("torch")
    encoder = sum(convolutions(i, o, o) for i, o in [(1, 32), (32, 64), (64, 128), (128, 256), (256, 512)])
    decoder = sum(convolutions(d + s, s, s) for d, s in [(512, 256), (256, 128), (128, 64), (64, 32)])
    with torch.device("meta"):
        assert count(make(MULuxCZ).network()) == encoder + decoder + 2 * (2 * 32 + 2) == 7_846_180


def test_calt_us_has_the_weights_of_its_description():
    torch = pytest.importorskip("torch")
    encoder = sum(convolutions(i, o, o) for i, o in [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)])
    decoder = sum(convolutions(d + s, s, s) for d, s in [(1024, 512), (512, 256), (256, 128), (128, 64)])
    with torch.device("meta"):
        assert count(make(CALTUS).network()) == encoder + decoder + 4 * 64 + 4 == 31_377_988


@pytest.mark.parametrize("variant", InstanceUNet.variants)
def test_instance_unet_is_the_unet_and_a_region_proposal_network(variant):
    torch = pytest.importorskip("torch")
    unet = 31_030_593 + 64 + 1  # the published U-Net of one map, and one map more
    rpn = convolutions(512, 512) + (512 * 18 + 18) + (512 * 36 + 36)
    with torch.device("meta"):
        assert count(make(InstanceUNet, variant).network()) == unet + (0 if variant == "u-bce" else rpn)


@pytest.mark.parametrize("size", [(448, 448), (33, 50), (1, 1)])
def test_proposals_are_at_a_sixteenth_of_the_resolution(size):
    torch = pytest.importorskip("torch")
    network = make(InstanceUNet, "iuw-bce", widths=(2, 2, 2, 2, 2), rpn_channels=2).network()
    with torch.no_grad():
        outputs = network(torch.zeros(1, 1, *size))
    coarse = tuple(-(-side // 16) for side in size)
    shapes = {name: tuple(o.shape) for name, o in outputs.items()}
    assert shapes == {"segmentation": (1, 2, *size), "objectness": (1, 18, *coarse), "deltas": (1, 36, *coarse)}
    assert network.stride == 16


# -- what they learn ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_crowd_regions_are_not_learned(method):
    crowd = np.zeros((1, 40, 40), bool)
    crowd[0, 5:20, 5:20] = True
    found = make(method, task=Task()).encode(
        Sample("a", np.zeros((40, 40), np.uint8), Instances.from_masks(crowd, crowd=[True]))
    )
    if method is CALTUS:
        assert ((found["semantic"][0] == 255) == crowd[0]).all()
    else:
        assert ((found["weight"][0] == 0) == crowd[0]).all()
        assert not any(found[name].any() for name in found if name != "weight")


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_each_class_has_maps_of_its_own(method):
    masks = np.zeros((2, 40, 40), bool)
    masks[0, 4:36, 4:36], masks[1, 12:24, 12:24] = True, True
    truth = Instances.from_masks(masks, class_ids=[0, 1])
    targets = make(method, task=Task(("cell", "nucleus"))).encode(Sample("a", np.zeros((40, 40), np.uint8), truth))
    for array in targets.values():
        assert array.shape == (2, 40, 40)
    name = {"mu_lux_cz": "mask", "calt_us": "semantic", "instance_unet": "foreground"}[method.name]
    np.testing.assert_array_equal(np.isin(targets[name], (1, 2)), masks)


def test_boxes_are_those_of_the_crop():
    method = make(InstanceUNet, "iu-bce", **SMALL[InstanceUNet])
    labels = np.zeros((1, 32, 32), np.int32)
    labels[0, 4:20, 6:22] = 1
    crop = {"image": np.zeros((1, 32, 32), np.float32), "labels": labels}
    found = method.encode_crop(crop, np.random.default_rng(0))
    assert "labels" not in found
    assert found["anchor_label"].shape == (9, 8, 8)  # stride 4
    assert found["anchor_deltas"].shape == (36, 8, 8)
    assert (found["anchor_label"] == 1).any()
    empty = method.encode_crop({**crop, "labels": np.zeros_like(labels)}, np.random.default_rng(0))
    assert {name: a.shape for name, a in empty.items()} == {name: a.shape for name, a in found.items()}
    assert not (empty["anchor_label"] == 1).any()


def test_the_size_of_unknown_objects_is_the_data_sets():
    known = Task(objects=ObjectStatistics(10, 23, 40, 2, 5, 9))
    assert make(InstanceUNet, "iu-bce", task=known)._size == 23


# -- what they read off their maps ----------------------------------------------------------------------


def perfect_maps(method, labels):
    """What a network that has learned its targets by heart would say."""
    targets = method.encode(sample(labels))
    if method.name == "calt_us":
        return {"semantic": np.eye(4, dtype=np.float32)[targets["semantic"][0]].transpose(2, 0, 1)}
    if method.name == "mu_lux_cz":
        return {name: targets[name].astype(np.float32) for name in ("marker", "mask")}
    maps = {"segmentation": targets["foreground"].astype(np.float32)}
    if method.params.proposals:
        image = np.zeros((1, *labels.shape), np.float32)
        anchors = method.encode_crop({"image": image, "labels": targets["labels"]}, np.random.default_rng(0))
        maps |= {
            "objectness": (anchors["anchor_label"] == 1).astype(np.float32),
            "deltas": anchors["anchor_deltas"],
        }
    return maps


def mean_iou(truth, found):
    return np.mean(
        [max(((t & f).sum() / (t | f).sum() for f in found.to_masks()), default=0) for t in truth.to_masks()]
    )


@pytest.mark.parametrize(("method", "variant"), ALL, ids=NAMES)
@pytest.mark.parametrize("style", ["circular", "non_circular"])
def test_perfect_maps_give_the_cells_back(method, variant, style):
    settings = {"post_processing": style} if method is MULuxCZ else {}
    made = make(method, variant, **settings)
    labels = two_cells()
    found = made.decode(perfect_maps(made, labels), sample(labels).image)
    assert found.scores is None
    assert len(found) == 2
    assert mean_iou(Instances.from_label_map(labels), found) > 0.97


@pytest.mark.parametrize(("method", "variant"), ALL, ids=NAMES)
def test_perfect_maps_of_a_real_image_give_its_nuclei_back(method, variant, shared_data):
    """On 28 nuclei, four of which touch in pairs, that no decoder may lose; components may merge the touching ones."""
    from skimage import io as pictures
    from skimage.measure import label

    (path,) = (shared_data / "bbbc039" / "masks").glob("*N12_s9*")
    labels = label(pictures.imread(path)[..., 0], background=0)[:256, :256].astype(np.int32)
    made = make(method, variant)
    found = made.decode(perfect_maps(made, labels), sample(labels).image)
    merges = method is InstanceUNet and made.params.decoder == "components"
    assert mean_iou(Instances.from_label_map(labels), found) > (0.9 if merges else 0.97)
    assert len(np.unique(labels)) - 1 - len(found) in ((0, 1, 2) if merges else (0,))


def test_only_the_watershed_parts_cells_that_the_maps_merge():
    rows, columns = np.indices((90, 100))
    labels = np.where((rows - 45) ** 2 + (columns - 35) ** 2 <= 196, 1, 0).astype(np.int32)
    labels[((rows - 45) ** 2 + (columns - 61) ** 2 <= 196) & (labels == 0)] = 2
    for variant, expected in (("iu-bce", 1), ("iuw-bce", 2), ("u-bce", 1)):
        made = make(InstanceUNet, variant)
        assert len(made.decode(perfect_maps(made, labels), sample(labels).image)) == expected


@pytest.mark.parametrize(("method", "variant"), ALL, ids=NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (64, 80)])
def test_nothing_is_found_in_an_empty_map(method, variant, shape):
    made = make(method, variant)
    found = made.decode(perfect_maps(made, np.zeros(shape, np.int32)), np.zeros(shape, np.uint8))
    assert len(found) == 0
    assert found.shape == shape


# -- trained ------------------------------------------------------------------------------------------


class Source(list):
    @property
    def ids(self):
        return tuple(s.id for s in self)


@pytest.fixture(scope="module")
def one_thread():
    torch = pytest.importorskip("torch")
    pytest.importorskip("mmengine")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("method", "variant"), ALL, ids=NAMES)
def test_every_variant_trains_and_predicts_any_image(method, variant, one_thread, tmp_path):
    """On an image of one cell in 16 bits and of an odd size, smaller than the crop in one way, and an empty one."""
    labels = np.zeros((37, 21), np.int32)
    labels[5:20, 4:15] = 1
    one = sample(labels, np.uint16)
    source = Source([one, Sample("empty", np.full((37, 41), 900, np.uint16), Instances.empty(37, 41))])
    trained = make(method, variant, **SMALL[method])
    weights = trained.fit(source, None, FitContext(tmp_path, Schedule(iterations=3, batch_size=2), "short"))
    trained.load(weights)
    gray8bit = (one.image >> 8).astype(np.uint8)
    for image in (one.image, one.image[:1, :1], np.repeat(one.image[..., None], 3, axis=2), gray8bit):
        image.flags.writeable = False
        found = trained.predict(image)
        assert found.shape == image.shape[:2]
        assert found == trained.predict(image)


@pytest.mark.parametrize(
    ("method", "variant"), [(MULuxCZ, ""), (CALTUS, ""), (InstanceUNet, "iuw-bce")], ids=lambda value: str(value)
)
def test_tiles_agree_with_the_whole_image(method, variant, one_thread, tmp_path):
    """Networks of two levels see 11 pixels far; tiles ignore their outer 16 of the 64 that overlap."""
    rng = np.random.default_rng(0)
    labels = np.zeros((150, 213), np.int32)
    labels[10:40, 10:40] = 1
    image = rng.integers(0, 255, labels.shape, dtype=np.uint8)
    small = {**SMALL[method], "widths": (4, 8)}
    trained = make(method, variant, **small)
    source = Source([Sample("a", image, Instances.from_label_map(labels))])
    weights = trained.fit(source, None, FitContext(tmp_path, Schedule(iterations=2, batch_size=1), "short"))
    trained.load(weights)
    tiled = make(method, variant, **small, tile=96, tile_overlap=64)
    tiled.load(weights)
    prepared = trained.prepare(image)
    whole, blended = trained.infer(prepared), tiled.infer(prepared)
    assert whole.keys() == blended.keys()
    for name in whole:
        np.testing.assert_allclose(blended[name], whole[name], atol=2e-5, err_msg=name)


def test_turned_predictions_are_turned_back(one_thread, tmp_path):
    """The mean over four turns of a turned image is the turned mean."""
    labels = np.zeros((24, 40), np.int32)
    labels[4:20, 6:18] = 1
    trained = make(CALTUS, **SMALL[CALTUS])
    weights = trained.fit(Source([sample(labels)]), None, FitContext(tmp_path, Schedule(iterations=2), "short"))
    trained.load(weights)
    prepared = np.random.default_rng(0).normal(size=(1, 24, 40)).astype(np.float32)
    upright = trained.infer(prepared)["semantic"]
    turned = trained.infer(np.rot90(prepared, axes=(1, 2)).copy())["semantic"]
    np.testing.assert_allclose(np.rot90(upright, axes=(1, 2)), turned, atol=1e-6)
    np.testing.assert_allclose(upright.sum(axis=0), 1, atol=1e-5)
    once = make(CALTUS, **SMALL[CALTUS], turns=1)
    once.load(weights)
    assert not np.allclose(once.infer(prepared)["semantic"], upright, atol=1e-6)


# -- grey levels --------------------------------------------------------------------------------------


def test_equalisation_agrees_with_a_plain_loop():
    image = np.random.default_rng(0).integers(40, 60, (13, 17)).astype(np.uint8)
    darkest = (image == image.min()).sum()
    for value in np.unique(image):
        share = ((image <= value).sum() - darkest) / (image.size - darkest)
        expected = round(float(share) * 255) / 255 - 0.5
        assert equalised(image)[image == value][0] == pytest.approx(expected, abs=1e-6)
    assert equalised(image).min() == -0.5
    assert equalised(image).max() == 0.5
    assert (equalised(np.full((3, 4), 9, np.uint8)) == -0.5).all()


def test_illumination_is_removed():
    _, columns = np.indices((200, 200))
    lit = np.clip(60 + 0.4 * columns, 0, 255)
    cells = np.zeros(lit.shape)
    cells[90:100, ::40] = 60
    even = evenly_lit(np.rint(lit + cells).astype(np.uint8), 20)
    assert np.median(even) == pytest.approx(0, abs=1e-6)
    assert abs(even[50, 60] - even[50, 140]) < 0.02
    assert even[95, 80] - even[50, 80] > 0.15


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_percentiles_become_0_and_1(dtype):
    image = (np.random.default_rng(0).random((50, 60)) * 200).astype(dtype) * (1 if dtype == np.uint8 else 250)
    scaled = between_percentiles(image, 1, 99)
    np.testing.assert_allclose(np.percentile(scaled, [1, 99]), [0, 1], atol=1e-4)
    np.testing.assert_allclose(between_percentiles(np.repeat(image[..., None], 3, 2), 1, 99), scaled, atol=1e-4)
    assert not between_percentiles(np.full((3, 3), 5, dtype), 1, 99).any()
    sparse = np.zeros((100, 100), dtype)
    sparse[0, 0] = 9
    assert between_percentiles(sparse, 1, 99).max() == 1


def test_gray_in_8_bits():
    colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    assert gray8(colour).tolist() == [[76, 150, 29, 9]]
    assert gray8(np.array([[0, 30000, 60000]], np.uint16)).dtype == np.uint8
