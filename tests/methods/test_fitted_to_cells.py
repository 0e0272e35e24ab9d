"""What follows the data set's objects, and what stays as published: suppression, anchors, samplers, proposals."""

from __future__ import annotations

import pytest

from bench.api import ObjectStatistics, Task
from bench.registry import find_method
from methods import _proposals

TWO_STAGE = (
    "mask_rcnn",
    "mask_rcnn-bce",
    "mask_rcnn-swin",
    "cascade_mask_rcnn",
    "cascade_mask_rcnn-x152",
    "deepcis-cell",
)
VOTING = ("mnc", "fcis", "fcis-voc")
PHOTOGRAPHS = ObjectStatistics(64, 100, 300, 2.0, 7, 60)


def task(aspect: float = 2.0, densest: int = 60, most: int = 2000, classes: int = 1) -> Task:
    objects = ObjectStatistics(64, 100, 300, aspect, min(7, densest), densest)
    return Task(
        tuple(f"class {n}" for n in range(classes)), objects=objects, image_shape=(600, 800), max_detections=most
    )


def config(name: str, asked: Task, init: str = "checkpoint", **settings):
    entry = find_method(name)
    return entry.method(asked, entry.method.make_params(entry.variant, settings)).config(init)


def suppression(name: str, asked: Task, **settings) -> float:
    """Box IoU between detections of a class."""
    found = config(name, asked, **settings)
    if name == "yi2018":
        return found["bbox_head"]["test_cfg"]["nms"]["iou_threshold"]
    return (
        found["test_cfg"]["voting"]["nms_iou"] if name in VOTING else found["test_cfg"]["rcnn"]["nms"]["iou_threshold"]
    )


@pytest.mark.parametrize(
    ("names", "published", "slender"), [(TWO_STAGE, 0.5, 0.6), (VOTING, 0.3, 0.5), (("yi2018",), 0.3, 0.6)]
)
def test_suppression_is_weaker_only_where_objects_are_slender(names, published, slender):
    for name in names:
        assert suppression(name, task()) == published, name
        assert suppression(name, Task()) == published, name
        assert suppression(name, task(aspect=3.0)) == published, name
        assert suppression(name, task(aspect=4.5)) == slender, name
        assert suppression(name, task(aspect=4.5), nms_iou=0.42) == 0.42, name
    for name in {*names} & {*VOTING, "yi2018"}:
        assert suppression(name, task(aspect=4.5), fit_to_task=False) == published, name


def test_between_slender_voters_suppression_follows_the_iou_of_the_vote():
    assert suppression("mnc", task(aspect=4.5), vote_iou=0.4) == 0.4
    assert suppression("mnc", task(aspect=4.5), vote_iou=0.2) == 0.3  # never below the published


@pytest.mark.parametrize("name", VOTING)
def test_masks_are_suppressed_only_where_boxes_are_suppressed_late(name):
    def of_masks(asked: Task, **settings) -> float:
        return config(name, asked, **settings)["test_cfg"]["voting"]["mask_nms_iou"]

    assert of_masks(task(aspect=4.5)) == 0.3
    assert of_masks(task(aspect=3.0)) == of_masks(Task()) == 1
    assert of_masks(task(aspect=4.5), nms_iou=0.42) == of_masks(task(aspect=4.5), fit_to_task=False) == 1


@pytest.mark.parametrize("name", TWO_STAGE)
def test_slender_objects_get_slender_anchors(name):
    published = [0.25, 0.5, 1.0, 2.0, 4.0] if name.startswith("deepcis") else [0.5, 1.0, 2.0]
    assert config(name, task())["rpn_head"]["anchor_generator"]["ratios"] == published
    assert config(name, task(aspect=4.5))["rpn_head"]["anchor_generator"]["ratios"] == [0.25, 0.5, 1.0, 2.0, 4.0]


def stages(found) -> list:
    return found["train_cfg"]["rcnn"] if isinstance(found["train_cfg"]["rcnn"], list) else [found["train_cfg"]["rcnn"]]


@pytest.mark.parametrize("name", TWO_STAGE)
def test_where_the_published_numbers_suffice_they_stay(name):
    found = config(name, task())
    test, train = found["test_cfg"]["rpn"], found["train_cfg"]
    assert (test["nms_pre"], test["max_per_img"]) == (1000, 1000)
    assert {stage["sampler"]["num"] for stage in stages(found)} == {512}
    assert train["rpn"]["sampler"]["num"] == 256


@pytest.mark.parametrize("name", TWO_STAGE)
def test_crowded_images_have_enough_of_everything_within_a_ceiling(name):
    found = config(name, task(densest=3000, most=4000))
    test, train = found["test_cfg"]["rpn"], found["train_cfg"]
    assert (test["nms_pre"], test["max_per_img"]) == (6000, 6000)
    assert {stage["sampler"]["num"] for stage in stages(found)} == {2048}
    assert train["rpn"]["sampler"]["num"] == 2048
    assert train["rpn_proposal"]["max_per_img"] >= 2048
    assert {part["assigner"]["gpu_assign_thr"] for part in (train["rpn"], *stages(found))} == {200}
    assert {stage["sampler"]["num"] for stage in stages(config(name, task(densest=3000), samples=4096))} == {4096}


@pytest.mark.parametrize(
    ("densest", "most", "wanted"),
    [(20, 2000, 1000), (200, 2000, 2000), (300, 400, 1000), (500, 600, 3000), (700, 900, 3000), (900, 2500, 3750)],
)
def test_proposals_follow_the_objects(densest, most, wanted):
    assert _proposals.proposals(task(densest=densest, most=most)) == wanted


def test_proposals_of_an_unknown_data_set_follow_the_detections():
    assert _proposals.proposals(Task(max_detections=2000)) == 3000


@pytest.mark.parametrize("name", ["mnc", "fcis", "yi2018"])
def test_many_anchors_are_compared_with_many_objects_on_the_cpu(name):
    found = config(name, task())
    head = found["bbox_head" if name == "yi2018" else "rpn_head"]
    assert head["train_cfg"]["assigner"]["gpu_assign_thr"] == 200


def test_without_fitting_the_voc_recipe_has_the_anchors_and_the_least_side_of_voc():
    for name, sides, least in (("fcis", [64, 128, 256, 512], 2), ("fcis-voc", [128, 256, 512], 16)):
        found = config(name, task(), fit_to_task=False)
        assert [16 * s for s in found["rpn_head"]["anchor_generator"]["scales"]] == sides
        assert found["test_cfg"]["proposals"]["min_bbox_size"] == found["roi_head"]["smallest"] == least
        assert config(name, task())["roi_head"]["smallest"] == 2


# -- what the published weights expect ----------------------------------------------------------------

STOCK = (
    "mask_rcnn",
    "mask_rcnn-bce",
    "mask_rcnn-swin",
    "cascade_mask_rcnn",
    "deepcis-cell",
    "rtmdet_ins",
    "solov2",
    "mask2former",
)


@pytest.mark.parametrize("name", STOCK)
def test_the_network_sees_colours_as_its_stock_weights_expect(name):
    """The stock pipeline reads BGR; here images come as RGB. Both must be the same numbers to the network."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("mmdet")
    from bench.ops import import_mmdet

    import_mmdet()
    from mmdet.models import DetDataPreprocessor
    from mmdet.structures import DetDataSample

    from methods._mmdet import stock
    from methods.deepcis import STOCK as RESNEST

    theirs = stock(RESNEST if name.startswith("deepcis") else find_method(name).method.coco_config).model
    numbers = {"mean", "std", "bgr_to_rgb", "rgb_to_bgr"}
    made = [
        DetDataPreprocessor(**{k: v for k, v in one.items() if k in numbers})
        for one in (theirs.data_preprocessor, config(name, task())["data_preprocessor"])
    ]
    rgb = torch.randint(0, 255, (3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen = [
        one({"inputs": [image], "data_samples": [DetDataSample(metainfo={"img_shape": (8, 8)})]})["inputs"]
        for one, image in zip(made, (rgb.flip(0), rgb), strict=True)
    ]
    torch.testing.assert_close(*seen)
    assert (name == "rtmdet_ins") == config(name, task())["data_preprocessor"]["rgb_to_bgr"]


@pytest.mark.parametrize("name", ["mask_rcnn", "cascade_mask_rcnn"])
def test_the_stock_schedule_decays_every_weight(name):
    from methods._mmdet import stock

    method = find_method(name).method
    own, theirs = method(task()).training(1200, 16), stock(method.coco_config).optim_wrapper
    assert own.paramwise is None
    assert "paramwise_cfg" not in theirs
    assert dict(own.optimizer) == theirs.optimizer


@pytest.mark.parametrize("name", ["cascade_mask_rcnn-x152", "deepcis-cell"])
def test_training_images_have_the_six_sizes_of_detectron2(name):
    entry = find_method(name)
    resize, flip = entry.method(task(), entry.method.make_params(entry.variant)).augmentations()
    assert resize["scales"] == [(1333, side) for side in (640, 672, 704, 736, 768, 800)]
    assert flip == {"type": "RandomFlip", "prob": 0.5}
    square = entry.method.make_params(entry.variant, {"image_scale": (256, 256), "shortest": 1.0})
    assert set(entry.method(task(), square).augmentations()[0]["scales"]) == {(256, 256)}


@pytest.mark.parametrize("shortest", [0, 1.5])
def test_a_share_that_is_none_is_refused(shortest):
    from bench.api import UsageError

    for name in ("cascade_mask_rcnn-x152", "deepcis-cell"):
        with pytest.raises(UsageError, match="shortest"):
            config(name, task(), shortest=shortest)


def test_the_box_head_from_random_weights_is_the_listed_one():
    """Four convolutions with normalisation and one layer of 1024, where the stock head has two layers of 1024."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("mmdet")
    from bench.ops import import_mmdet

    import_mmdet()
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    counts = {}
    for init in ("random", "checkpoint"):
        with torch.device("meta"):
            head = MODELS.build(ConfigDict(config("mask_rcnn", task(classes=80), init)["roi_head"]["bbox_head"]))
        counts[init] = sum(parameter.numel() for parameter in head.parameters())
    last = 1025 * (81 + 4 * 80)
    assert counts["random"] == 4 * (256 * 256 * 9 + 2 * 256) + (256 * 49 + 1) * 1024 + last
    assert counts["checkpoint"] == (256 * 49 + 1) * 1024 + 1025 * 1024 + last
    more = (counts["random"] - counts["checkpoint"]) / 1e6
    for name in ("mask_rcnn", "mask_rcnn-bce"):
        assert any(f"({more:.1f} million weights more)" in text for text in find_method(name).method.deviations)
