"""The schedule ``paper`` of every detection method begins on the data set of its paper, as the card splits it."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from bench.api import FitContext, Instances, ObjectStatistics, Sample, Task  # noqa: E402
from bench.data import load_card  # noqa: E402
from bench.registry import find_method, registry  # noqa: E402
from methods._mmdet import MMDetMethod  # noqa: E402

RCNN = {"image_scale": (64, 64), "depth": 18, "pyramid_channels": 32, "head_channels": 32, "samples": 16}
MNC = {
    "image_scale": (64, 64),
    "enlarge": 1.0,
    "vgg_channels": (4, 8, 8, 16, 16),
    "rpn_channels": 16,
    "mask_hidden": 16,
    "fc_channels": 32,
}
FCIS = {
    "image_scale": (64, 64),
    "enlarge": 1.0,
    "depth": 18,
    "base_channels": 8,
    "rpn_channels": 16,
    "reduced_channels": 16,
}
YI = {"input_side": 128}
"""Besides what makes it narrow."""
X152 = {**RCNN, "depth": 50, "groups": 4, "base_width": 8, "base_channels": 32}
DEEPCIS = {**RCNN, "depth": 50, "stem_channels": 16, "base_channels": 16}
SWIN = {"image_scale": (64, 64), "embed_dims": 48, "depths": (1, 1, 1, 1), "samples": 16}
TRIALS = {
    **{f"mask_rcnn-{loss}": (("dic_hela", "phc_u373"), RCNN) for loss in ("bce", "focal", "shape")},
    "mask_rcnn": (("neural",), RCNN),
    "mnc": (("neural",), MNC),
    "mnc-resnet101": (("neural",), {**MNC, "resnet_depth": 18}),
    "fcis": (("neural",), FCIS),
    "fcis-voc": (("neural",), FCIS),
    "yi2018": (("neural",), YI),
    "yi2018-end-to-end": (("neural",), YI),
    "yi2018-vgg16": (("neural",), YI),
    "cascade_mask_rcnn-x152": (("sartorius",), X152),
    "deepcis-cell": (("evican60_cell",), DEEPCIS),
    "deepcis-nucleus": (("evican60_nucleus",), DEEPCIS),
    "deepcis-both": (("evican60",), DEEPCIS),
    "cascade_mask_rcnn": (("livecell",), RCNN),
    "mask_rcnn-swin": (("livecell",), SWIN),
    "rtmdet_ins": (("livecell",), {"image_scale": (64, 64), "widen": 0.25, "deepen": 0.17}),
    "solov2": (
        ("livecell",),
        {"image_scale": (64, 64), "depth": 18, "pyramid_channels": 32, "head_channels": 32, "finest_grid": 12},
    ),
    "mask2former": (
        ("livecell",),
        {
            "image_scale": (64, 64),
            "depth": 18,
            "channels": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "queries": 12,
            "points": 64,
        },
    ),
}
"""Method to the data sets of its paper (of mmdet's own, a data set of cells), and settings of a tiny network."""

LONG = ("mnc-resnet101", "mask_rcnn-swin", "deepcis-both", "fcis-voc", "mask_rcnn-focal")
"""Too wide or too much like another for every run of the tests."""


class Split(list):
    """What a split of these images is to a method."""

    @property
    def ids(self):
        return tuple(sample.id for sample in self)

    @property
    def groups(self):
        return {sample.id: sample.group for sample in self}


def images(count: int, classes: int, groups: int) -> Split:
    """Small images with six cells each, in sequences."""
    rng = np.random.default_rng(0)
    found = Split()
    for number in range(count):
        labels = np.zeros((64, 64), np.uint8)
        for label, (row, column) in enumerate(rng.integers(4, 48, (6, 2)), start=1):
            labels[row : row + 10, column : column + 12] = label
        truth = Instances.from_label_map(labels, class_of={label: label % classes for label in range(1, 7)})
        image = np.where(labels > 0, 180, 40).astype(np.uint8)
        found.append(Sample(f"{number % groups:02}/{number:03}", image, truth, group=f"{number % groups:02}"))
    return found


class EnoughError(BaseException):
    """Ends a training after its first step."""


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_detection_method_is_tried():
    methods = registry().methods
    wanted = {n for n, e in methods.items() if issubclass(e.method, MMDetMethod) and "paper" in e.method.schedules}
    assert wanted == set(TRIALS)


@pytest.mark.parametrize(
    ("name", "card"),
    [
        pytest.param(name, card, marks=pytest.mark.slow if name in LONG else ())
        for name, (cards, _) in TRIALS.items()
        for card in cards
    ],
)
def test_the_paper_schedule_takes_its_first_step(tmp_path, name, card, narrow_yi2018):
    entry, settings = find_method(name), TRIALS[name][1]
    if settings is YI:
        settings = {**narrow_yi2018, **YI}
    loaded = load_card(card)
    scheme = loaded.schemes[loaded.default_scheme]
    classes = loaded.task.classes or ("a", "b", "c")
    train = images(20, len(classes), 2)
    val = images(2, len(classes), 2) if "val" in scheme.splits else None
    task = Task(classes, objects=ObjectStatistics(8, 11, 12, 1.5, 6, 6), image_shape=(64, 64), max_detections=50)
    schedule = entry.method.schedules["paper"]
    method = entry.method(task, entry.method.make_params(entry.variant, settings, schedule))
    steps = []

    def progress(done: int, total: int, text: str) -> None:
        steps.append(total)
        raise EnoughError

    context = FitContext(
        tmp_path,
        schedule,
        "paper",
        seed=1,
        dataset=card,
        progress=progress,
        data=lambda dataset, split: images(4, len(classes), 2),
    )
    with pytest.raises(EnoughError):
        method.fit(train, val, context)
    assert steps[0] >= 1
    if name in ("mask_rcnn-bce", "mask_rcnn-focal", "mask_rcnn-shape"):
        assert val is None  # as the paper's data sets are split
        held = json.loads((tmp_path / "held_out.json").read_text())["images"]
        assert held == ["00/018", "01/019"]  # the last tenth of both films
        assert steps[0] == 30 * 18 // 2
    else:
        assert not list(tmp_path.rglob("held_out.json"))
