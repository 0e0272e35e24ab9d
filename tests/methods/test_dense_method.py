"""DenseMapMethod with a network of one pixel: training that can be killed, any image, tiles."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmengine")
pytest.importorskip("monai")

from dataclasses import dataclass  # noqa: E402

from bench.api import (  # noqa: E402
    DataError,
    FitContext,
    Instances,
    MethodError,
    Sample,
    Schedule,
    Task,
    UsageError,
)
from methods import _runner  # noqa: E402
from methods._augmentation import Augmentation  # noqa: E402
from methods._decoders import connected_components, from_label_maps  # noqa: E402
from methods._dense import DenseMapMethod  # noqa: E402
from methods._encoders import label_maps  # noqa: E402
from methods._losses import binary_cross_entropy  # noqa: E402


class OnePixel(torch.nn.Module):
    """Logits from the grey level of the pixel alone."""

    stride = 1

    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Conv2d(1, 8, 1)
        self.drop = torch.nn.Dropout(0.1)
        self.out = torch.nn.Conv2d(8, 1, 1)

    def forward(self, image):
        return {"cell": self.out(self.drop(torch.relu(self.mix(image))))}


class Bright(DenseMapMethod):
    """Cells are what is bright: the smallest dense method."""

    name = "bright"
    title = "Bright"
    augmentation = Augmentation(flip_horizontal=True, right_angles=True, rotation=180.0, zoom=0.2)
    encoded = 0

    @dataclass(frozen=True)
    class Params(DenseMapMethod.Params):
        """Its settings."""

        crop: int = 16
        learning_rate: float = 0.05

    def network(self):
        return OnePixel()

    def encode(self, sample):
        self.encoded += 1
        return {"cell": (label_maps(sample.instances, 1) != 0).astype(np.uint8)}

    def loss(self, outputs, targets):
        truth = targets["cell"]
        return {"loss": binary_cross_entropy(outputs["cell"], truth, torch.ones_like(truth))}

    def decode(self, maps, image):
        return from_label_maps([connected_components(maps["cell"][0] > 0.5)])


class Source(list):
    @property
    def ids(self):
        return tuple(sample.id for sample in self)


def samples(count=3, shape=(24, 30)):
    rng = np.random.default_rng(0)
    found = []
    for index in range(count):
        labels = np.zeros(shape, np.int32)
        labels[2:9, 3:10], labels[12:20, 15:26] = 1, 2
        image = np.where(labels > 0, 180, 60) + rng.integers(-20, 20, shape)
        found.append(Sample(f"image {index}", image.astype(np.uint8), Instances.from_label_map(labels)))
    return Source(found)


def context(folder, steps=24, seed=0, **more):
    return FitContext(folder, Schedule(iterations=steps, batch_size=2), "short", seed=seed, **more)


def state(path):
    return torch.load(path, weights_only=True)["state_dict"]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    method = Bright(Task())
    steps = []
    weights = method.fit(
        samples(), None, context(folder, progress=lambda done, total, text: steps.append((done, total)))
    )
    method.load(weights)
    return method, weights, steps


def test_it_learns_and_each_image_was_encoded_once(trained):
    method, weights, steps = trained
    assert steps == [(n, 24) for n in range(1, 25)]
    assert method.encoded == 3
    assert method.n_parameters() == (8 + 8) + (8 + 1)
    assert not (weights.parent / "targets").exists()
    for sample in samples():
        found = method.predict(sample.image)
        assert found.scores is None
        np.testing.assert_array_equal(found.to_label_map(), sample.instances.to_label_map())


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(trained, tmp_path):
    again = Bright(Task()).fit(samples(), None, context(tmp_path / "same"))
    other = Bright(Task()).fit(samples(), None, context(tmp_path / "other", seed=1))
    assert same(state(trained[1]), state(again))
    assert not same(state(trained[1]), state(other))


def test_loader_processes_change_no_bit(trained, tmp_path, monkeypatch):
    train = _runner.train
    monkeypatch.setattr(_runner, "train", lambda *args, **named: train(*args, **{**named, "workers": 2}))
    weights = Bright(Task()).fit(samples(), None, context(tmp_path))
    assert same(state(trained[1]), state(weights))


@pytest.mark.parametrize("killed_at", [1, 17])
def test_a_killed_training_goes_on_to_the_same_bits(trained, tmp_path, monkeypatch, killed_at):
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")

    def kill(done, total, text):
        if done == killed_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Bright(Task()).fit(samples(), None, context(tmp_path, progress=kill))
    first = []
    weights = Bright(Task()).fit(samples(), None, context(tmp_path, progress=lambda done, *_: first.append(done)))
    assert first[0] <= killed_at + 1
    assert same(state(trained[1]), state(weights))


def test_it_stops_when_held_back_images_are_learned_no_better_and_keeps_the_best(tmp_path):
    class Patient(Bright):
        patience = 2

    inverted = Source(
        Sample(s.id, s.image, Instances.from_label_map((s.instances.to_label_map() == 0).astype(np.int32)))
        for s in samples(2, (40, 30))
    )
    seen = []
    patient = Patient(Task(), Patient.make_params("", {"crop": "20"}))
    weights = patient.fit(
        samples(4), inverted, context(tmp_path, steps=100, progress=lambda done, *_: seen.append(done))
    )
    assert seen[-1] < 20  # a pass is two steps, and every one makes the opposite of the truth less likely
    assert patient.encoded == 4 + 2
    assert not list(tmp_path.glob("*targets*"))
    assert weights.is_file()


def test_training_starts_from_a_checkpoint_given_by_path(trained, tmp_path):
    weights = Bright(Task()).fit(samples(), None, context(tmp_path, steps=1, init=str(trained[1])))
    start, end = state(trained[1]), state(weights)
    assert all((start[k] - end[k]).abs().max() <= 0.0501 for k in start)  # one step of Adam moves by the learning rate


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_8_and_16_bit_gray_and_colour_images_give_the_same_cells(trained, dtype, channels):
    sample = samples(1)[0]
    image = sample.image.astype(dtype) * (1 if dtype == np.uint8 else 200)
    if channels:
        image = np.repeat(image[..., None], channels, axis=2)
    image.flags.writeable = False
    found = trained[0].predict(image)
    np.testing.assert_array_equal(found.to_label_map(), sample.instances.to_label_map())


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (31, 17)])
def test_odd_sizes_and_images_without_contrast(trained, shape):
    assert trained[0].predict(np.full(shape, 7, np.uint8)).shape == shape


def test_tiles_give_the_same_cells(trained, tmp_path):
    _, weights, _ = trained
    tiled = Bright(Task(), Bright.make_params("", {"tile": "12", "tile_overlap": "4"}))
    tiled.load(weights)
    for sample in samples():
        np.testing.assert_array_equal(
            tiled.predict(sample.image).to_label_map(), trained[0].predict(sample.image).to_label_map()
        )


def test_no_more_than_the_task_allows(trained):
    method = Bright(Task(max_detections=1))
    method.load(trained[1])
    found = method.predict(samples(1)[0].image)
    assert found.areas.tolist() == [8 * 11]  # the larger of the two


def test_phases_are_reported_in_order(trained):
    import contextlib

    seen = []

    @contextlib.contextmanager
    def clock(name):
        seen.append(name)
        yield

    trained[0].set_clock(clock)
    trained[0].predict(samples(1)[0].image)
    trained[0].set_clock(None)
    assert seen == ["preprocess", "network", "postprocess"]


def test_an_image_smaller_than_the_crop_can_be_learned(tmp_path):
    method = Bright(Task(), Bright.make_params("", {"crop": "40"}))
    assert method.fit(samples(), None, context(tmp_path, steps=2)).is_file()


def test_an_image_without_truth_cannot_be_learned_and_the_message_names_it(tmp_path):
    source = Source([Sample("plate 7", np.zeros((20, 20), np.uint8))])
    with pytest.raises(DataError, match="plate 7 has no truth"):
        Bright(Task()).fit(source, None, context(tmp_path, steps=1))


def test_weights_of_another_network_and_no_weights_are_refused(tmp_path):
    torch.save({"state_dict": {"network.other": torch.zeros(3)}}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no checkpoint")
    for path in ("other.pth", "text.pth", "absent.pth"):
        with pytest.raises(MethodError, match=path):
            Bright(Task()).load(tmp_path / path)
    with pytest.raises(MethodError, match="no weights"):
        Bright(Task()).predict(np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize("wrong", [{"crop": "0"}, {"tile": "-1"}, {"tile_overlap": "-1"}, {"crop": "wide"}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Bright.make_params("", wrong)
