"""MMDetMethod and Mask R-CNN: from an image to mmdet and back, and a training that a kill does not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.api import FitContext, Instances, MethodError, ObjectStatistics, Sample, Schedule, Task
from methods.mask_rcnn import MaskRCNN

SMALL = {
    "image_scale": (64, 64),
    "depth": 18,
    "pyramid_channels": 32,
    "head_channels": 32,
    "samples": 32,
    "optimizer": "AdamW",
    "learning_rate": 1e-3,
}
OBJECTS = ObjectStatistics(8, 10, 14, 1.2, 5, 8)


class Samples(list):
    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.id for sample in self)


@pytest.fixture(scope="module")
def samples() -> Samples:
    rng = np.random.default_rng(0)
    found = Samples()
    for number in range(3):
        labels = np.zeros((64, 64), np.uint8)
        for label, (row, column) in enumerate(rng.integers(4, 48, (5, 2)), start=1):
            labels[row : row + 10, column : column + 12] = label
        image = np.where(labels > 0, 180, 40).astype(np.uint8) + rng.integers(0, 20, labels.shape, dtype=np.uint8)
        found.append(Sample(f"image{number}", image, Instances.from_label_map(labels)))
    return found


def small(**settings) -> MaskRCNN:
    torch.set_num_threads(1)
    task = Task(objects=OBJECTS, image_shape=(64, 64), max_detections=400)
    return MaskRCNN(task, MaskRCNN.make_params(overrides={**SMALL, **settings}))


def fit(samples: Samples, folder: Path, steps: int = 4, progress=lambda done, total, text: None) -> Path:
    schedule = Schedule(iterations=steps, batch_size=2)
    return small().fit(samples, None, FitContext(folder, schedule, "smoke", seed=3, progress=progress))


def test_training_leaves_torch_as_it_was(samples, tmp_path):
    """A prediction in the same process must be computed, and timed, as one in a process of its own."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    seen = []
    fit(samples, tmp_path, 1, lambda *_: seen.append(torch.are_deterministic_algorithms_enabled()))
    assert seen == [True]
    assert before == (torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory)
    assert before[0] is False


@pytest.mark.parametrize("shape", [(1, 200), (300, 2), (130, 3)])
def test_a_strip_so_narrow_that_nothing_of_it_would_be_left(tmp_path, shape):
    """Shrunk to a long side of 64 pixels, its short side rounds to 0."""
    labels = np.zeros(shape, np.uint8)
    labels[:60, :60] = 1
    strip = Sample("strip", 100 * labels, Instances.from_label_map(labels))
    method = small(score_threshold=0.0)
    method.load(fit(Samples([strip]), tmp_path, 1))
    found = method.predict(strip.image).checked()
    assert found.shape == shape


class KilledError(BaseException):
    """Ends a training as abruptly as an exception can."""


def test_a_training_that_was_cut_ends_in_the_same_weights(samples, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")
    whole = torch.load(fit(samples, tmp_path / "whole"), weights_only=True)["state_dict"]

    def cut(done: int, total: int, text: str) -> None:
        if done == 3:
            raise KilledError

    with pytest.raises(KilledError):
        fit(samples, tmp_path / "cut", progress=cut)
    assert (tmp_path / "cut" / "resume.pth").is_file()
    steps = []
    resumed = fit(samples, tmp_path / "cut", progress=lambda done, total, text: steps.append(done))
    assert steps[0] in (2, 3)  # a checkpoint is not written after every step, lest writing take all the time
    assert steps == list(range(steps[0], 5))
    assert not (tmp_path / "cut" / "resume.pth").exists()
    for name, value in torch.load(resumed, weights_only=True)["state_dict"].items():
        assert torch.equal(value, whole[name]), name
    logged = [line.split(",")[0] for line in (tmp_path / "cut" / "training.jsonl").read_text().splitlines()]
    assert logged == ['{"step": 1', '{"step": 2', '{"step": 3', '{"step": 4']


def test_finished_training_is_not_repeated(samples, tmp_path):
    first = fit(samples, tmp_path, steps=1)
    before = first.stat().st_mtime_ns
    assert fit(samples, tmp_path, steps=1).stat().st_mtime_ns == before


def test_nothing_of_it_reaches_the_terminal(samples, tmp_path, capfd):
    method = small()
    method.load(fit(samples, tmp_path, steps=1))
    method.predict(samples[0].image)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((50, 70), np.uint8),
        np.zeros((41, 63, 3), np.uint8),
        np.zeros((33, 20, 4), np.uint8),
        np.arange(40 * 30, dtype=np.uint16).reshape(40, 30),
    ],
)
def test_predictions_have_the_size_of_the_image(samples, tmp_path, image):
    method = small(score_threshold=0.0)
    method.load(fit(samples, tmp_path, steps=1))
    before = image.copy()
    found = method.predict(image)
    assert found.shape == image.shape[:2]
    assert 0 < len(found) <= 400
    assert found.scores is not None
    found.checked()
    np.testing.assert_array_equal(image, before)


def test_three_hundred_separate_boxes_are_three_hundred_predictions(samples, tmp_path):
    """Neither mmdet's 100 detections nor its 1000 proposals cut a dense image."""
    method = small(score_threshold=0.0)
    method.load(fit(samples, tmp_path, steps=1))
    network = method._network
    rows, columns = np.divmod(np.arange(300), 20)
    boxes = torch.tensor(np.stack([columns * 3, rows * 4, columns * 3 + 2.5, rows * 4 + 3.5], 1), dtype=torch.float32)

    def proposals(features, data_samples, rescale):
        from mmengine.structures import InstanceData

        return [InstanceData(bboxes=boxes, scores=torch.ones(300), labels=torch.zeros(300, dtype=torch.long))]

    def unmoved(rois, cls_scores, bbox_preds, batch_img_metas, **arguments):
        return head_predict(
            rois, cls_scores, tuple(torch.zeros_like(p) for p in bbox_preds), batch_img_metas, **arguments
        )

    network.rpn_head.predict = proposals
    head_predict = network.roi_head.bbox_head.predict_by_feat
    network.roi_head.bbox_head.predict_by_feat = unmoved
    # Masks that fill their box, so that none of 2 x 3 pixels is empty.
    torch.nn.init.zeros_(network.roi_head.mask_head.conv_logits.weight)
    torch.nn.init.constant_(network.roi_head.mask_head.conv_logits.bias, 5.0)
    assert len(method.predict(samples[0].image)) == 300


def test_an_image_without_cells_trains(tmp_path):
    empty = Samples([Sample("empty", np.zeros((64, 64), np.uint8), Instances.empty(64, 64))])
    assert fit(empty, tmp_path, steps=1).is_file()


def test_anchors_follow_the_objects():
    scale = small().config("random")["rpn_head"]["anchor_generator"]["scales"]
    assert scale == [2.0]  # 8 px objects on a stride of 4
    task = Task(objects=ObjectStatistics(100, 120, 200, 1.2, 5, 8), image_shape=(64, 64))
    large = MaskRCNN(task, MaskRCNN.make_params(overrides=SMALL))
    assert large.config("random")["rpn_head"]["anchor_generator"]["scales"] == [8.0]


def test_the_published_network_has_the_published_parameters():
    """44.4 million with 80 classes and batch normalisation, as MMDetection and Detectron report for R50-FPN."""
    from bench.ops import import_mmdet

    import_mmdet()
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    task = Task(classes=tuple(f"class {n}" for n in range(80)))
    config = MaskRCNN(task).config("checkpoint")
    with torch.device("meta"):
        network = MODELS.build(ConfigDict(config))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(44.4e6, rel=0.02)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no checkpoint at all", "not a checkpoint that can be read safely"),
        (None, "holds no weights"),
        ({"state_dict": {"backbone.conv1.weight": torch.zeros(1)}}, "of another network"),
    ],
)
def test_weights_that_do_not_fit_are_one_clear_line(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content if content is not None else [1, 2], path)
    with pytest.raises(MethodError, match=message):
        small().load(path)


def test_a_checkpoint_runs_no_code(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "owned",)

    (tmp_path / "weights.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(MethodError, match="safely"):
        small().load(tmp_path / "weights.pth")
    assert not (tmp_path / "owned").exists()


def test_a_diverged_training_says_so(samples, tmp_path):
    method = small(learning_rate=1e30, optimizer="SGD")
    with pytest.raises(MethodError, match="training diverged"):
        method.fit(samples, None, FitContext(tmp_path, Schedule(iterations=6, batch_size=1), "smoke"))


def test_weights_from_the_network_are_asked_for_by_name_and_missing_internet_is_one_line(
    samples, tmp_path, monkeypatch
):
    from urllib.error import URLError

    import torch.hub

    from bench.api import MissingDependencyError

    asked = []

    def offline(url, *arguments, **options):
        asked.append(url)
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    task = Task(objects=OBJECTS, image_shape=(64, 64))
    method = MaskRCNN(task)
    with pytest.raises(MissingDependencyError, match="coco weights of mask_rcnn cannot be fetched: no route to host"):
        method.fit(samples, None, FitContext(tmp_path, Schedule(iterations=1), "smoke", init="coco"))
    assert len(asked) == 1
    assert "mask_rcnn_r50_fpn_1x_coco" in asked[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_small_network_learns_two_real_images(shared_data, tmp_path, record_property):
    """From random weights to mask AP@0.5 of 0.8 or more on the two images it was trained on."""
    from skimage.io import imread

    from bench.metrics import score

    torch.set_num_threads(1)
    found = Samples()
    for folder in sorted((shared_data / "dsb2018").iterdir()):
        image = imread(next((folder / "images").glob("*.png")))
        if image.shape[0] < 256 or image.shape[1] < 256:
            continue
        masks = np.stack([imread(path)[:256, :256] > 0 for path in sorted((folder / "masks").glob("*.png"))])
        masks = masks[masks.sum((1, 2)) >= 30]
        if 15 <= len(masks) <= 60:
            found.append(Sample(folder.name[:8], image[:256, :256, :3], Instances.from_masks(masks)))
        if len(found) == 2:
            break
    task = Task(
        objects=ObjectStatistics.measure(s.instances for s in found), image_shape=(256, 256), max_detections=300
    )
    settings = {
        **SMALL,
        "image_scale": (256, 256),
        "pyramid_channels": 64,
        "head_channels": 256,
        "samples": 128,
        "learning_rate": 16 * 5e-4 / 2,
    }
    method = MaskRCNN(task, MaskRCNN.make_params(overrides=settings))
    weights = method.fit(found, None, FitContext(tmp_path, Schedule(iterations=300, batch_size=2), "short"))
    method.load(weights)
    scores = score([s.instances for s in found], [method.predict(s.image) for s in found], ["voc"], intervals=False)
    ap = scores.protocols["voc"]["AP@0.5"]
    record_property("AP@0.5", round(ap, 3))
    assert ap >= 0.8, f"mask AP@0.5 is {ap:.3f}"
