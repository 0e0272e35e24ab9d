"""What reaches a network while it trains: the same grey levels whatever the bit depth, and nothing lost silently."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from bench.api import FitContext, Instances, ObjectStatistics, Sample, Schedule, Task, to_rgb8  # noqa: E402
from methods._dense import DenseMapMethod  # noqa: E402
from methods._encoders import label_maps  # noqa: E402
from methods._feeding import HIDDEN, NO_PIXEL, UNSEEN, Tally  # noqa: E402
from methods._losses import binary_cross_entropy  # noqa: E402
from methods._mmdet import to_mmdet, trainable_objects  # noqa: E402
from methods.mask_rcnn import MaskRCNN  # noqa: E402

NARROW = {
    "image_scale": (64, 64),
    "depth": 18,
    "pyramid_channels": 32,
    "head_channels": 32,
    "samples": 32,
    "optimizer": "AdamW",
    "learning_rate": 1e-3,
}


class Samples(list):
    @property
    def ids(self):
        return tuple(sample.id for sample in self)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    from bench.ops import import_mmdet

    import_mmdet()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def detector(shape=(64, 64), **given):
    task = Task(objects=ObjectStatistics(8, 10, 14, 1.2, 5, 8), image_shape=shape, max_detections=40)
    return MaskRCNN(task, MaskRCNN.make_params(overrides={**NARROW, **given}))


def square_cells(*extra, side=64):
    """Four cells, of which ``extra`` masks are put after."""
    masks = np.zeros((4, side, side), bool)
    for number, (row, column) in enumerate(((5, 5), (5, 40), (40, 5), (40, 40))):
        masks[number, row : row + 10, column : column + 12] = True
    masks = np.concatenate([masks, *(one[None] for one in extra)])
    image = np.where(masks.any(axis=0), 180, 40).astype(np.uint8)
    return image, masks


# -- 16 bit -------------------------------------------------------------------------------------------


def network_input(image, scale=(256, 256)):
    """What mmdet's network is given in training and in prediction."""
    made = detector(image_scale=scale)
    pipeline = made._compose([made._resize(), made.packing()])
    trained = pipeline(to_mmdet(Sample("one", image, Instances.empty(*image.shape[:2]))))["inputs"]
    predicted = made._batch(image)["inputs"][0]
    assert torch.equal(trained, predicted)
    return trained


@pytest.mark.parametrize("source", ["usiigaci", "bbbc039"])
def test_real_16_bit_images_reach_the_network_as_their_8_bit_twins(shared_data, source):
    from skimage.io import imread

    path = next(p for p in sorted((shared_data / source).rglob("*.tif")) if "id" not in p.stem)
    image = imread(path)
    assert image.dtype == np.uint16
    twin = to_rgb8(image)
    assert twin.dtype == np.uint8
    assert torch.equal(network_input(image), network_input(twin))
    # Neither an offset nor a factor nor a small range of the 16 bits changes what is seen, but for rounding.
    small = (image // max(1, int(image.max()) // 600) + 300).astype(np.uint16)
    assert int(small.max()) - int(small.min()) < 700
    seen, same = (network_input(one).float() for one in (image, small))
    assert float((seen - same).abs().mean()) < 2
    assert float(same.std()) == pytest.approx(float(seen.std()), rel=0.05)
    assert float(same.max()) > 200  # bright things are bright, not 600 of 65,535


@pytest.mark.parametrize("level", [0, 1, 255, 256, 40000, 65535])
def test_constant_16_bit_images_survive(level):
    seen = network_input(np.full((50, 70), level, np.uint16))
    assert seen.dtype == torch.uint8
    assert int(seen.max()) == int(seen.min())


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_gray_and_colour_with_and_without_alpha(channels, kind):
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 200, (64, 64)).astype(kind)
    opaque = np.full(gray.shape, np.iinfo(kind).max, kind)
    planes = {1: [gray], 2: [gray, opaque], 3: [gray] * 3, 4: [gray] * 3 + [opaque]}[channels]
    seen = network_input(np.stack(planes, axis=-1), (64, 64))
    assert torch.equal(seen, network_input(gray, (64, 64)))  # alpha neither seen nor stretched along
    assert seen.shape == (3, 64, 64)


# -- what is dropped, by a detector -------------------------------------------------------------------


def fit(made, source, folder, steps=4, progress=lambda done, total, text: None):
    schedule = Schedule(iterations=steps, batch_size=2)
    return made.fit(source, None, FitContext(folder, schedule, "smoke", seed=3, progress=progress))


def with_flaws():
    """An image with a mask without a pixel, one with a cell that shrinking loses, one without cells."""
    image, masks = square_cells(np.zeros((64, 64), bool))
    first = Sample("empty mask", image, Instances.from_masks(masks))
    dot = np.zeros((192, 192), bool)
    dot[100, 101] = True
    image, masks = square_cells(dot, side=192)
    second = Sample("dot", image, Instances.from_masks(masks))
    return Samples([first, second, Sample("no cell", np.zeros((64, 64), np.uint8), Instances.empty(64, 64))])


def test_a_detector_says_what_it_did_not_learn_from(tmp_path, capsys):
    source = with_flaws()
    fit(detector(tile=0), source, tmp_path, steps=3)  # six draws: every image twice
    assert json.loads((tmp_path / "dropped.json").read_text()) == {
        "counted": "drawn examples",
        "examples": 6,
        "instances": 20,
        "dropped": {NO_PIXEL: 2, UNSEEN: 2},
    }
    assert "of 20 instances in 6 drawn examples: 2 without a pixel" in capsys.readouterr().err


def test_nothing_dropped_is_written_and_not_said(tmp_path, capsys):
    image, masks = square_cells()
    fit(detector(), Samples([Sample("fine", image, Instances.from_masks(masks))]), tmp_path, steps=1)
    assert json.loads((tmp_path / "dropped.json").read_text())["dropped"] == {}
    assert capsys.readouterr().err == ""


class KilledError(BaseException):
    """Ends a training as abruptly as an exception can."""


def test_a_resumed_training_counts_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")
    fit(detector(tile=0), with_flaws(), tmp_path / "whole", steps=5)

    def cut(done, total, text):
        if done == 4:
            raise KilledError

    with pytest.raises(KilledError):
        fit(detector(tile=0), with_flaws(), tmp_path / "cut", steps=5, progress=cut)
    assert not (tmp_path / "cut" / "dropped.json").exists()
    fit(detector(tile=0), with_flaws(), tmp_path / "cut", steps=5)
    assert (tmp_path / "cut" / "dropped.json").read_text() == (tmp_path / "whole" / "dropped.json").read_text()


def test_a_detector_trains_on_crops_of_large_images(tmp_path):
    image, masks = square_cells(side=160)
    source = Samples([Sample("large", image, Instances.from_masks(masks))])
    made = detector(tile=64, tile_overlap=16)
    fit(made, source, tmp_path, steps=1)
    counted = json.loads((tmp_path / "dropped.json").read_text())
    assert counted["examples"] == 2
    assert counted["dropped"] == {}  # what lies outside a crop is not lost
    made.load(tmp_path / "weights.pth")
    assert made.predict(image).shape == (160, 160)


def test_crowd_regions_are_not_counted():
    image, masks = square_cells(np.zeros((64, 64), bool))
    crowd = np.array([False, True, False, False, True])
    tally = Tally({})
    tally.drawn(Sample("one", image, Instances.from_masks(masks, crowd=crowd)))
    assert tally.total.plain() == {"counted": "drawn examples", "examples": 1, "instances": 3, "dropped": {}}


def test_more_objects_than_a_network_can_learn_from_are_counted():
    made = detector()
    image, masks = square_cells()
    packed = made._compose([made._resize(), made.packing()])(to_mmdet(Sample("a", image, Instances.from_masks(masks))))
    tally = Tally({"3 queries": 3, "9 masks trained": 9})
    tally.packed(6, packed)
    assert tally.total.dropped == {"beyond 3 queries": 1, "cut or shrunk away by the augmentation": 2}


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("mask_rcnn", {"128 object regions sampled": 128}),
        ("mask2former", {"100 queries": 100}),
        ("mnc", {"19 object regions sampled": 19}),
        ("yi2018", {"128 masks trained": 128}),
        ("rtmdet_ins", {}),
    ],
)
def test_what_limits_a_network_is_read_from_its_config(name, limits):
    from bench.registry import find_method

    entry = find_method(name)
    task = Task(objects=ObjectStatistics(20, 30, 60, 1.5, 9, 20), image_shape=(600, 800), max_detections=100)
    made = entry.method(task, entry.method.make_params(entry.variant))
    assert trainable_objects(made.config("random")) == limits


# -- what is dropped, by a dense method ---------------------------------------------------------------


class OnePixel(torch.nn.Module):
    stride = 1

    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.out = torch.nn.Conv2d(8, 1, 1)

    def forward(self, image):
        return {"cell": self.out(torch.relu(self.norm(self.mix(image))))}


class Bright(DenseMapMethod):
    """Cells are what is bright."""

    name = "bright"
    title = "Bright"

    @dataclass(frozen=True)
    class Params(DenseMapMethod.Params):
        """Its settings."""

        crop: int = 16

    def network(self):
        return OnePixel()

    def encode(self, sample):
        return {"cell": (label_maps(sample.instances, 1) != 0).astype(np.uint8)}

    def loss(self, outputs, targets):
        truth = targets["cell"]
        return {"loss": binary_cross_entropy(outputs["cell"], truth, torch.ones_like(truth))}

    def decode(self, maps, image):
        return Instances.from_masks(maps["cell"] > 0.5)


def covered_cells():
    """Of five masks one has no pixel, and one lies under two smaller ones."""
    image, masks = square_cells(np.zeros((64, 64), bool))
    under = masks[0].copy()
    left, right = under.copy(), under.copy()
    left[:, 11:], right[:, :11] = False, False
    return Sample("covered", image, Instances.from_masks(np.concatenate([masks, [left, right]])))


def test_a_dense_method_counts_an_image_once(tmp_path, capsys):
    image, masks = square_cells()
    source = Samples([covered_cells(), Sample("fine", image, Instances.from_masks(masks))])
    fit(Bright(Task()), source, tmp_path, steps=5)
    assert json.loads((tmp_path / "dropped.json").read_text()) == {
        "counted": "images",
        "examples": 2,
        "instances": 11,
        "dropped": {NO_PIXEL: 1, HIDDEN: 1},
    }
    assert "bright: not learned from, of 11 instances in 2 images: 1 hidden" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir() if p.is_dir() and p.name in ("counted", "targets")} == set()


def test_cells_too_small_for_a_box_are_counted(tmp_path):
    from methods._feeding import ImageTally
    from methods.instance_unet import InstanceUNet

    dot = np.zeros((64, 64), bool)
    dot[30:33, 30:33] = True
    image, masks = square_cells(dot)
    tally = ImageTally(tmp_path)
    made = InstanceUNet(Task(), InstanceUNet.make_params("iu-dice", {"min_area": 10}))
    tally.count(Sample("a", image, Instances.from_masks(masks)), 1, made.least_box)
    assert tally.total().dropped == {"without a box, of fewer than 10 pixels": 1}
    assert "min_area" not in InstanceUNet.after_network  # it decides what is learned
    assert InstanceUNet(Task(), InstanceUNet.make_params("u-bce")).least_box == 0


def test_a_resumed_dense_training_counts_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")
    image, masks = square_cells()
    source = Samples([covered_cells(), Sample("fine", image, Instances.from_masks(masks))])

    def cut(done, total, text):
        if done == 4:
            raise KilledError

    with pytest.raises(KilledError):
        fit(Bright(Task()), source, tmp_path, steps=6, progress=cut)
    fit(Bright(Task()), source, tmp_path, steps=6)
    counted = json.loads((tmp_path / "dropped.json").read_text())
    assert (counted["examples"], counted["instances"]) == (2, 11)


# -- dense images computed together -------------------------------------------------------------------


def test_images_of_equal_size_are_computed_together(monkeypatch):
    from methods import _dense_model

    made = Bright(Task(), Bright.Params(tile=40, tile_overlap=8))
    made.load_fresh(0)
    rng = np.random.default_rng(0)
    shapes = [(30, 40), (30, 40), (20, 24), (64, 64), (30, 40)]
    images = [rng.integers(0, 255, shape).astype(np.uint8) for shape in shapes]
    alone = [made.predict(image) for image in images]
    maps = [made.infer(made.prepare(image))["cell"] for image in images[:2]]
    passes = []
    infer = _dense_model.infer

    def watched(network, activate, pieces, device):
        passes.append([piece.shape[1:] for piece in pieces])
        return infer(network, activate, pieces, device)

    monkeypatch.setattr(_dense_model, "infer", watched)
    together = made.predict_batch(images)
    assert passes[:2] == [[(30, 40)] * 3, [(20, 24)]]
    assert [len(one) for one in passes[2:]] == [1] * 4  # one image larger than a tile
    assert [one.shape for one in together] == shapes
    for one, other in zip(alone, together, strict=True):
        assert abs(int(one.areas.sum()) - int(other.areas.sum())) <= 2  # a pixel whose logit is 0 up to rounding
    stacked = infer(made._network, made.activate, [made.prepare(image) for image in images[:2]], "cpu")
    for one, other in zip(maps, stacked, strict=True):
        np.testing.assert_allclose(one, other["cell"], atol=1e-6)


def test_no_image_is_no_instance():
    made = Bright(Task())
    made.load_fresh(0)
    assert made.predict_batch([]) == []


def test_a_sample_without_truth_has_nothing_to_drop():
    sample = replace(Sample("a", np.zeros((8, 8), np.uint8)), instances=None)
    tally = Tally({})
    tally.drawn(sample)
    assert (tally.total.examples, tally.total.instances) == (1, 0)


def test_a_stored_run_says_what_its_training_dropped(tmp_path):
    from types import SimpleNamespace

    from bench.api import DataError
    from bench.store.files import RunFiles

    (tmp_path / "plan.json").write_text(json.dumps({"key": "k"}))
    (tmp_path / "training" / "mask").mkdir(parents=True)
    fit(detector(tile=0), with_flaws(), tmp_path / "training", steps=1)
    (tmp_path / "training" / "mask" / "dropped.json").write_text(json.dumps({"examples": 3}))
    files = RunFiles(SimpleNamespace(id=7, key="k", folder=str(tmp_path)))
    assert files.dropped()["mask"] == {"examples": 3}
    assert files.dropped()[""]["examples"] == 2
    assert RunFiles(SimpleNamespace(id=7, key="other", folder=str(tmp_path))).dropped() == {}
    (tmp_path / "training" / "mask" / "dropped.json").write_text("[")
    with pytest.raises(DataError, match="damaged"):
        files.dropped()
