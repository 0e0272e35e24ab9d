"""MNC's network: RoI warp, sampling, heads, cascade, proposals, parameter counts."""

import contextlib
import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

import bench.ops  # noqa: E402

bench.ops.import_mmdet()

from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from bench.api import ObjectStatistics, Task  # noqa: E402
from methods import _runner  # noqa: E402
from methods._rois import IGNORED, Labels, SamplingRule, Truth, label_rois, sample_rois  # noqa: E402
from methods.mnc import MNC  # noqa: E402
from methods.mnc.backbone import MNCVGG16, put_vgg16  # noqa: E402
from methods.mnc.cascade import Answers, MNCRoIHead  # noqa: E402
from methods.mnc.heads import MaskedClassifier  # noqa: E402
from methods.mnc.warp import limit_gradient, roi_warp  # noqa: E402

NARROW = {
    "vgg_channels": (4, 8, 8, 16, 16),
    "rpn_channels": 16,
    "mask_hidden": 16,
    "fc_channels": 32,
    "image_scale": (128, 128),
    "enlarge": 1.0,
    "proposals": 20,
    "rois": 16,
    "fit_to_task": False,
}
TRUNK = {"type": "MNCFullyConnectedTrunk", "channels": 8}


@pytest.fixture(autouse=True)
def _seeded_and_quiet():
    bench.ops.import_mmdet()  # a training before may have left another scope
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are too small for more
    torch.manual_seed(0)
    _runner.quiet_loggers()
    yield
    torch.set_num_threads(threads)


def network(init="random", variant="", task=None, **settings):
    method = MNC(task or Task(), MNC.make_params(variant, {**NARROW, **settings}))
    built = method._build(init)
    if init == "random":  # ImageNet's weights would be downloaded
        built.init_weights()
    return built


def sample(boxes, shape=(128, 128), ignored=()):
    masks = np.zeros((len(boxes), *shape), np.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = 1
    one = DetDataSample(
        metainfo={
            "img_shape": shape,
            "pad_shape": shape,
            "batch_input_shape": shape,
            "ori_shape": shape,
            "scale_factor": (1.0, 1.0),
        }
    )
    one.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.zeros(len(boxes), dtype=torch.long),
        masks=BitmapMasks(masks, *shape),
    )
    one.ignored_instances = InstanceData(bboxes=torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4))
    return one


def total(losses):
    return sum(v if torch.is_tensor(v) else sum(v) for v in losses.values())


# -- RoI warp -------------------------------------------------------------------------------------------


def warp_by_loops(features, boxes, stride, size, samples):
    """The definition: read the features bilinearly at the cells' centres, take the largest of each few."""
    channels, height, width = features.shape
    out = np.full((len(boxes), channels, size, size), -np.inf)
    side = size * samples
    for n, (x0, y0, x1, y1) in enumerate(boxes):
        for i in range(side):
            for j in range(side):
                y = np.clip((y0 + (i + 0.5) * (y1 - y0) / side) / stride - 0.5, 0, height - 1)
                x = np.clip((x0 + (j + 0.5) * (x1 - x0) / side) / stride - 0.5, 0, width - 1)
                top, left = math.floor(y), math.floor(x)
                low, right = min(top + 1, height - 1), min(left + 1, width - 1)
                value = (
                    features[:, top, left] * (top + 1 - y) * (left + 1 - x)
                    + features[:, top, right] * (top + 1 - y) * (x - left)
                    + features[:, low, left] * (y - top) * (left + 1 - x)
                    + features[:, low, right] * (y - top) * (x - left)
                )
                place = out[n, :, i // samples, j // samples]
                out[n, :, i // samples, j // samples] = np.maximum(place, value)
    return out


def test_roi_warp_against_plain_loops():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 5, 7))
    boxes = [[3.2, 7.9, 60.1, 51.5], [0, 0, 112, 80], [100.5, 3, 111.5, 79], [40, 40, 44, 43], [9, 9, 9, 9]]
    warped = roi_warp(torch.tensor(features), torch.tensor(boxes, dtype=torch.float64), 16, 4, 2)
    assert warped.shape == (5, 3, 4, 4)
    assert np.allclose(warped.numpy(), warp_by_loops(features, boxes, 16, 4, 2))


def test_roi_warp_of_no_box():
    assert roi_warp(torch.zeros(3, 5, 7), torch.zeros(0, 4), 16).shape == (0, 3, 14, 14)


def test_gradients_reach_features_and_box_coordinates_as_finite_differences_say():
    features = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    # No sample within the step of finite differences of a cell's centre, where bilinear reading has a kink.
    boxes = torch.tensor(
        [[5.13, 9.21, 50.37, 61.83], [20.71, 2.57, 83.19, 40.43]], dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(lambda f, b: roi_warp(f, b, 16, 3, 2), (features, boxes), eps=1e-7, atol=1e-5)
    (gradient,) = torch.autograd.grad(roi_warp(features, boxes, 16, 3, 2).square().sum(), boxes)
    assert (gradient.abs() > 1e-6).all()


def test_half_precision_features_do_not_round_the_reading_positions():
    features = torch.arange(64.0).expand(1, 4, 64)
    boxes = torch.tensor([[900.3, 3.0, 960.9, 50.0]])
    assert torch.allclose(roi_warp(features.half(), boxes, 16).float(), roi_warp(features, boxes, 16), atol=1e-3)


def test_a_limited_gradient_is_clipped_and_the_values_are_not():
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    limited = limit_gradient(values, 1 / 512)
    assert torch.equal(limited, values)
    limited.backward(torch.tensor([5.0, -7.0, 0.001]))
    assert values.grad.tolist() == pytest.approx([1 / 512, -1 / 512, 0.001])


# -- sampling -------------------------------------------------------------------------------------------


def labels_of(overlaps, ignored=()):
    overlap = torch.tensor(overlaps)
    classes = torch.where(overlap >= 0.5, 0, 1)
    classes[list(ignored)] = IGNORED
    return Labels(classes, torch.zeros_like(classes), overlap)


def kinds(overlaps, rule=None):
    labels = labels_of(overlaps)
    chosen = sample_rois(labels, 1, rule or SamplingRule())
    assert len(set(chosen.tolist())) == len(chosen)
    picked = labels.overlap[chosen]
    return int((picked >= 0.5).sum()), int(((picked >= 0.1) & (picked < 0.5)).sum()), int((picked < 0.1).sum())


def test_sixty_four_rois_are_three_tenths_foreground_and_mostly_near_misses():
    assert kinds([0.5] * 100 + [0.1] * 100 + [0.0999] * 100) == (19, 38, 7)


@pytest.mark.parametrize(
    ("foreground", "near", "far", "expected"),
    [
        (3, 100, 100, (3, 52, 9)),  # 61 of background: 85 % of it near
        (100, 5, 100, (19, 5, 40)),  # far ones fill in
        (100, 100, 2, (19, 43, 2)),  # near ones fill in
        (100, 3, 4, (19, 3, 4)),  # foreground never fills in
        (0, 0, 10, (0, 0, 10)),
        (0, 0, 0, (0, 0, 0)),
    ],
)
def test_kinds_fill_in_for_each_other(foreground, near, far, expected):
    assert kinds([0.9] * foreground + [0.3] * near + [0.05] * far) == expected


def test_sampling_is_random_and_repeatable():
    labels = labels_of([0.9] * 50 + [0.3] * 200)
    first = sample_rois(labels, 1, SamplingRule())
    second = sample_rois(labels, 1, SamplingRule())
    torch.manual_seed(0)
    assert torch.equal(sample_rois(labels, 1, SamplingRule()), first)
    assert not torch.equal(first, second)


def test_ignored_rois_are_not_sampled():
    chosen = sample_rois(labels_of([0.9, 0.9, 0.3, 0.0], ignored=(0, 3)), 1, SamplingRule())
    assert sorted(chosen.tolist()) == [1, 2]


def test_rois_are_labelled_by_the_object_they_overlap_most():
    objects = torch.tensor([[0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 20.0, 10.0]])
    boxes = torch.tensor(
        [
            [0.0, 0.0, 10.0, 5.0],  # exactly half of the first
            [0.0, 0.0, 10.0, 4.9],  # less
            [9.0, 0.0, 20.0, 10.0],  # the second
            [40.0, 40.0, 50.0, 50.0],  # in an ignored region
            [38.0, 40.0, 42.0, 50.0],  # half in it: not more than half
        ]
    )
    labels = label_rois(
        boxes,
        objects,
        torch.tensor([2, 1]),
        background=3,
        foreground_iou=0.5,
        ignored_boxes=torch.tensor([[40.0, 40.0, 60.0, 60.0]]),
    )
    assert labels.classes.tolist() == [2, 3, 1, IGNORED, 3]
    assert labels.truth[:3].tolist() == [0, 0, 1]
    assert labels.overlap.tolist() == pytest.approx([0.5, 0.49, 100 / 110, 0, 0])
    none = label_rois(boxes, objects[:0], torch.zeros(0, dtype=torch.long), background=3, foreground_iou=0.5)
    assert none.classes.tolist() == [3] * 5


# -- heads and cascade ------------------------------------------------------------------------------------


def test_only_a_right_mask_is_taught_by_the_classifier():
    classifier = MaskedClassifier(4, 1, TRUNK)
    classifier.init_weights()
    rois = torch.rand(3, 4, 14, 14, requires_grad=True)
    masks = torch.rand(3, 21, 21, requires_grad=True)
    answers = classifier(rois, masks, torch.tensor([True, False, True]))
    sum(a.square().sum() for a in answers).backward()
    assert (masks.grad.abs().amax(dim=(1, 2)) > 0).tolist() == [True, False, True]
    # The features of the other RoI still learn, and its answers are the same as if its mask were right.
    assert (rois.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
    for gated, free in zip(answers, classifier(rois, masks), strict=True):
        assert torch.equal(gated, free)


def test_the_mask_branch_sees_nothing_outside_the_mask():
    classifier = MaskedClassifier(4, 1, TRUNK)
    classifier.init_weights()
    seen = []
    classifier.mask_trunk.register_forward_pre_hook(lambda _module, arguments: seen.append(arguments[0]))
    half = torch.zeros(1, 28, 28)
    half[:, :, 14:] = 1
    classifier(torch.ones(1, 4, 14, 14), half)
    assert seen[0][..., :7].abs().max() == 0
    assert (seen[0][..., 7:] == 1).all()


def head(**settings):
    built = MNCRoIHead(in_channels=4, num_classes=2, trunk=TRUNK, mask_hidden=8, mask_size=7, **settings)
    built.init_weights()
    return built


def truth_of(boxes, classes=None, shape=(64, 64)):
    made = sample(boxes, shape)
    return Truth(
        made.gt_instances.bboxes,
        torch.tensor(classes or [0] * len(boxes)),
        made.gt_instances.masks.to_ndarray(),
        torch.zeros(0, 4),
    )


def test_both_rounds_go_through_the_same_weights():
    built = head()
    calls = {"mask_regression": 0, "classifier": 0}
    for name in calls:
        getattr(built, name).register_forward_hook(
            lambda *_arguments, name=name: calls.__setitem__(name, calls[name] + 1)
        )
    truth = truth_of([(8, 8, 40, 40), (30, 30, 60, 60)])
    losses = built.loss(torch.randn(4, 4, 4), truth.boxes + 1, truth, (64, 64))
    assert calls == {"mask_regression": 2, "classifier": 2}
    assert sorted(losses) == [
        *("loss_bbox_3", "loss_bbox_5", "loss_cls_3", "loss_cls_5"),
        *("loss_mask_2", "loss_mask_4", "loss_seg_cls_3", "loss_seg_cls_5"),
    ]
    for name in ("loss_mask_2", "loss_mask_4"):
        (gradient,) = torch.autograd.grad(losses[name], built.mask_regression.hidden.weight, retain_graph=True)
        assert gradient.abs().max() > 0
    for name in ("loss_cls_3", "loss_cls_5"):
        (gradient,) = torch.autograd.grad(losses[name], built.classifier.cls.weight, retain_graph=True)
        assert gradient.abs().max() > 0
    trained = [p for name, p in built.named_parameters() if name.startswith(("mask_regression", "classifier"))]
    assert len(trained) == len(list(built.parameters()))


def test_the_second_round_teaches_the_first_rounds_box_deltas_no_more_than_the_limit():
    built = head(gradient_limit=1e-4)
    truth = truth_of([(8, 8, 40, 40)])
    deltas = []
    built.classifier.bbox.register_forward_hook(lambda _module, _inputs, output: deltas.append(output))
    losses = built.loss(20 * torch.randn(4, 4, 4), truth.boxes + 2, truth, (64, 64))
    later = 1e3 * (losses["loss_mask_4"] + losses["loss_cls_5"])
    (gradient,) = torch.autograd.grad(later, deltas[0])
    assert 0 < gradient.abs().max() <= 1e-4


def answers(mask_classes, deltas, size=7):
    n = len(mask_classes)
    logits = torch.tensor(mask_classes, dtype=torch.float32)
    return Answers(torch.zeros(n, size, size), logits, logits, torch.tensor(deltas, dtype=torch.float32).view(n, -1))


def test_the_bridge_moves_boxes_by_the_likeliest_foreground_class_and_clips_them():
    boxes = torch.tensor([[10.0, 10.0, 30.0, 50.0], [50.0, 40.0, 60.0, 60.0]])
    still, right, double, junk = [0.0] * 4, [5.0, 0, 0, 0], [0, 0, 5 * math.log(2), 5 * math.log(2)], [9.0] * 4
    said = answers(
        [[1.0, 2.0, 9.0], [3.0, 2.0, 9.0]],  # the background is likeliest, and has no say
        [[still, right, junk], [double, still, junk]],
    )
    moved = head().bridge(boxes, said, (64, 64))
    # Deltas are in units of (0.1, 0.1, 0.2, 0.2): half a width (20) to the right; twice as large, clipped at 64.
    assert moved.tolist() == [pytest.approx([20, 10, 40, 50]), pytest.approx([45, 30, 64, 64], abs=1e-4)]


def test_at_the_bridge_true_boxes_join_at_most_as_many_as_allowed():
    boxes = torch.tensor([[10.0, 10.0, 30.0, 50.0]])
    said = answers([[1.0, 0.0, 0.0]], [[[0.0] * 4] * 3])
    truth = truth_of([(1, 1, 9, 9), (20, 20, 40, 40), (5, 5, 50, 50)])
    every = head().second_rois(boxes, said, truth, (64, 64))
    assert every.tolist() == [*boxes.tolist(), *truth.boxes.tolist()]
    some = head(bridge_truths=2).second_rois(boxes, said, truth, (64, 64)).tolist()
    assert len(some) == 3
    assert all(box in truth.boxes.tolist() for box in some[1:])


def test_the_second_round_is_labelled_anew_and_keeps_every_roi():
    class Said(torch.nn.Module):
        """Sure of class 0, and of the deltas that turn near misses into hits."""

        def forward(self, rois, masks, positive=None):
            sure = torch.tensor([[30.0, 0.0, 0.0]]).expand(len(rois), -1)
            return sure, sure, torch.tensor([[-10.0, 0, 0, 0] * 3]).expand(len(rois), -1)

    built = head(sampling={"count": 4})
    built.classifier = Said()
    truth = truth_of([(10, 10, 20, 20)])
    miss = torch.tensor([[20.0, 10.0, 30.0, 20.0]])  # one width to the right: no overlap
    losses = built.loss(torch.randn(4, 4, 4), miss, truth, (64, 64))
    # Round one: the true box and the miss, so one of two is wrong by 30 nats. Round two: the true box has moved
    # away (wrong), the miss has become the object (right), and the true box has joined again (right).
    assert losses["loss_cls_3"].item() == pytest.approx(30 / 2)
    assert losses["loss_cls_5"].item() == pytest.approx(30 / 3)


def test_a_mask_is_right_if_it_overlaps_its_whole_object_by_half():
    truth = truth_of([(8, 8, 40, 40)])
    built = head()
    yes, no = torch.full((7, 7), 9.0), torch.full((7, 7), -9.0)
    left = no.clone()
    left[:, :3] = 9.0
    boxes = truth.boxes.repeat(4, 1)
    masks = torch.stack([yes, no, left, yes])
    right = built.right_masks(masks, boxes, torch.zeros(4, dtype=torch.long), torch.tensor([True] * 3 + [False]), truth)
    assert right.tolist() == [True, False, False, False]


class Sure(torch.nn.Module):
    """Sure that every RoI is of class 0 and every mask of the background; moves no box."""

    def forward(self, rois, masks, positive=None):
        classes = torch.tensor([[30.0, 0.0, 0.0]]).expand(len(rois), -1)
        return classes, classes.flip(1), torch.zeros(len(rois), 12)


def test_an_object_whose_mask_is_wrong_is_background_to_the_masks_class_only():
    built = head()
    built.classifier = Sure()
    truth = truth_of([(10, 10, 20, 20)])
    for mask_logit, wrong in ((-9.0, 0.0), (9.0, 30.0)):
        torch.nn.init.zeros_(built.mask_regression.masks.weight)
        torch.nn.init.constant_(built.mask_regression.masks.bias, mask_logit)
        losses = built.loss(torch.randn(4, 4, 4), torch.zeros(0, 4), truth, (64, 64))
        for stage in (3, 5):
            assert losses[f"loss_cls_{stage}"].item() == pytest.approx(0)
            assert losses[f"loss_seg_cls_{stage}"].item() == pytest.approx(wrong)


def test_the_rois_trained_on_are_the_sampled_ones():
    built = head(sampling={"count": 3})
    built.classifier = Sure()
    far = torch.tensor([[40.0, 40.0, 50.0, 50.0]]).repeat(30, 1)
    losses = built.loss(torch.randn(4, 4, 4), far, truth_of([(10, 10, 20, 20)]), (64, 64))
    assert losses["loss_cls_3"].item() == pytest.approx(30 * 2 / 3)  # the true box and two of the thirty
    assert losses["loss_cls_5"].item() == pytest.approx(30 * 2 / 4)  # and the true box again


def test_losses_are_those_of_hand_made_answers():
    class Said(torch.nn.Module):
        def forward(self, rois, masks, positive=None):
            n = len(rois)
            return torch.zeros(n, 3), torch.zeros(n, 3), torch.full((n, 12), 0.5)

    built = head(sampling={"count": 4})
    built.classifier = Said()
    torch.nn.init.zeros_(built.mask_regression.masks.weight)
    truth = truth_of([(10, 10, 20, 20)], [1])
    losses = built.loss(torch.randn(4, 4, 4), torch.tensor([[40.0, 40.0, 50.0, 50.0]]), truth, (64, 64))
    assert losses["loss_mask_2"].item() == pytest.approx(2 * math.log(2))  # weight 2, probability 1/2 everywhere
    assert losses["loss_cls_3"].item() == pytest.approx(math.log(3))
    assert losses["loss_seg_cls_3"].item() == pytest.approx(math.log(3))
    # Of two RoIs one is an object, whose four deltas should be 0: smooth L1 of 0.5 is 0.125.
    assert losses["loss_bbox_3"].item() == pytest.approx(4 * 0.125 / 2)


# -- proposals --------------------------------------------------------------------------------------------


def proposals_of(built, deltas, scores, shape=(128, 128), **settings):
    cfg = {"nms_pre": 6000, "nms_iou": 0.7, "max_per_img": 300, "min_bbox_size": 2, **settings}
    return built.rpn_head.proposals(scores, deltas, shape, cfg)


def test_proposals_pass_limited_gradients_to_the_chosen_deltas_only():
    built = network(anchor_sides=(32,), anchor_ratios=(1.0,), gradient_limit=0.008, images_per_update=8)
    deltas = torch.zeros(4, 8, 8, requires_grad=True)
    scores = torch.zeros(2, 8, 8)
    scores[0, 3, 4] = 5
    scores[0, 6, 1] = 4
    boxes = proposals_of(built, deltas, scores, max_per_img=2)
    # Anchors lie around the cells' centres: column 4 is at 72, row 3 at 56.
    assert boxes.tolist() == [[56, 40, 88, 72], [8, 88, 40, 120]]
    (1e4 * boxes[:, 2:].sum() + 1e-6 * boxes[:, 0].sum()).backward()
    touched = deltas.grad.abs().amax(dim=0) > 0
    assert touched.nonzero().tolist() == [[3, 4], [6, 1]]
    assert deltas.grad.abs().max() == pytest.approx(0.001)


def test_proposals_are_suppressed_counted_and_large_enough():
    built = network(anchor_sides=(16,), anchor_ratios=(1.0,))
    deltas, scores = torch.zeros(4, 8, 8), torch.randn(2, 8, 8)
    assert len(proposals_of(built, deltas, scores)) == 64
    assert len(proposals_of(built, deltas, scores, max_per_img=10)) == 10
    assert len(proposals_of(built, deltas, scores, nms_pre=5)) == 5
    assert len(proposals_of(built, deltas, scores, min_bbox_size=17)) == 0
    assert len(proposals_of(built, deltas, scores, shape=(64, 33))) == 4 * 2  # the third column would be 1 px wide
    shifted = deltas.clone()
    shifted[0, :, 1::2] = -0.9  # every second box onto its left neighbour, IoU 0.82
    assert len(proposals_of(built, shifted, scores)) == 32


def test_an_image_smaller_than_every_anchor_trains():
    built = network(anchor_sides=(256,))
    losses = built.loss(torch.randn(1, 3, 64, 64), [sample([(8, 8, 40, 40)], (64, 64))])
    assert torch.isfinite(total(losses))
    assert losses["loss_rpn_bbox"][0].item() > 0
    assert built.rpn_head.train_cfg["allowed_border"] == 0


# -- the whole --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["random", "imagenet"])
@pytest.mark.parametrize(("variant", "settings"), [("", {}), ("resnet101", {"resnet_depth": 18})])
def test_it_trains_on_images_with_and_without_objects_and_predicts_both(variant, settings, init):
    built = network(init, variant, **settings)
    built.train()
    images = torch.randn(2, 3, 128, 128)
    samples = [sample([(8, 8, 40, 40), (60, 70, 100, 120)]), sample([], ignored=[(0, 0, 50, 50)])]
    losses = built.loss(images, samples)
    total(losses).backward()
    assert torch.isfinite(total(losses))
    learning = [p for p in built.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learning)
    assert torch.isfinite(total(built.loss(images[1:], samples[1:])))
    with torch.inference_mode():
        for result in built.eval().predict(images, samples):
            found = result.pred_instances
            assert len(found.rles) == len(found.scores) == len(found.labels) == len(found.bboxes)


def test_the_later_stages_teach_the_proposals():
    built = network()
    images, samples = torch.randn(1, 3, 128, 128), [sample([(8, 8, 40, 40), (60, 70, 100, 120)])]
    losses = built.loss(images, samples)
    later = sum(v for name, v in losses.items() if "rpn" not in name)
    (gradient,) = torch.autograd.grad(later, built.rpn_head.rpn_reg.weight)
    assert gradient.abs().max() > 0


def test_predictions_are_in_pixels_of_the_original_image():
    built = network().eval()
    one = sample([])
    one.set_metainfo({"ori_shape": (64, 40), "scale_factor": (2.0, 2.0), "img_shape": (128, 80)})
    phases = []

    def phase(name):
        phases.append(name)
        return contextlib.nullcontext()

    built.phase = phase
    image = torch.randn(1, 3, 128, 80)
    with torch.inference_mode():
        (result,) = built.predict(image, [one])
    found = result.pred_instances
    boxes = found.bboxes
    assert phases == ["postprocess"]
    assert len(found.rles) > 0
    assert (found.bboxes[:, 2] <= 40).all()
    assert (found.bboxes[:, 3] <= 64).all()
    with torch.inference_mode():
        (unscaled,) = built.predict(image, [one], rescale=False)
    assert (unscaled.pred_instances.bboxes / 2 - boxes).abs().max() <= 1
    assert unscaled.pred_instances.bboxes.max() > 64


def test_from_imagenet_the_network_is_the_published_one_and_from_random_weights_it_is_normalised():
    published, random = network("imagenet"), network("random")
    assert [type(m).__name__ for m in published.modules() if "Norm" in type(m).__name__] == []
    assert sum(type(m).__name__ == "GroupNorm" for m in random.modules()) == 13
    frozen = [name for name, p in published.named_parameters() if not p.requires_grad]
    assert len(frozen) == 8  # weights and biases of conv1_1 to conv2_2
    assert all(p.requires_grad for p in random.parameters())


def test_imagenet_weights_of_a_vgg16_are_found_whatever_their_names():
    donor, backbone = MNCVGG16((4, 4, 4, 4, 4)), MNCVGG16((4, 4, 4, 4, 4))
    trunks = [MODELS.build({**TRUNK, "in_channels": 4}) for _ in range(2)]
    state = {}
    for index, convolution in enumerate(donor.convolutions()):
        state[f"features.{index}.weight"] = convolution.weight.detach()
        state[f"features.{index}.bias"] = torch.randn(4)
    for index, shape in ((0, (8, 4 * 49)), (3, (8, 8)), (6, (1000, 8))):
        state[f"classifier.{index}.weight"], state[f"classifier.{index}.bias"] = (
            torch.randn(shape),
            torch.randn(shape[0]),
        )
    put_vgg16(state, backbone, trunks)
    for index, convolution in enumerate(backbone.convolutions()):
        assert torch.equal(convolution.weight, state[f"features.{index}.weight"])
        assert torch.equal(convolution.bias, state[f"features.{index}.bias"])
    for trunk in trunks:
        assert torch.equal(trunk.fc6.weight, state["classifier.0.weight"])
        assert torch.equal(trunk.fc7.bias, state["classifier.3.bias"])
    with pytest.raises(ValueError, match="VGG-16"):
        put_vgg16({"conv.weight": torch.zeros(4, 3, 3, 3)}, backbone, trunks)


def bottlenecks(count, width, in_channels):
    """Parameters of a ResNet stage: 1 x 1, 3 x 3, 1 x 1 without biases, scale and shift after each."""
    out = 4 * width

    def block(inward):
        return inward * width + 9 * width * width + width * out + 2 * (width + width + out)

    return block(in_channels) + in_channels * out + 2 * out + (count - 1) * block(out)


def test_parameter_counts_against_a_derivation_by_hand():
    def linear(inward, out):
        return inward * out + out

    def convolution(inward, out, side):
        return inward * out * side * side + out

    def rest(channels, vector):
        """RPN with 9 anchors, mask regression with m = 21, three outputs for one class."""
        return (
            convolution(channels, 512, 3)
            + convolution(512, 18, 1)
            + convolution(512, 36, 1)
            + linear(14 * 14 * channels, 256)
            + linear(256, 441)
            + 2 * linear(vector, 2)
            + linear(vector, 8)
        )

    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    vgg16 = sum(convolution(a, b, 3) for a, b in itertools.pairwise(widths))
    assert vgg16 == 14_714_688  # torchvision's vgg16 without its classifier
    trunk = linear(7 * 7 * 512, 4096) + linear(4096, 4096)
    conv5 = bottlenecks(3, 512, 1024)
    conv1_to_4 = 7 * 7 * 3 * 64 + 2 * 64 + bottlenecks(3, 64, 64) + bottlenecks(4, 128, 256) + bottlenecks(23, 256, 512)
    assert conv1_to_4 + conv5 + linear(2048, 1000) == 44_549_160  # torchvision's resnet101
    expected = {
        "": vgg16 + 2 * trunk + rest(512, 2 * 4096),
        "resnet101": conv1_to_4 + 2 * conv5 + rest(1024, 2 * 2048),
    }
    assert expected == {"": 282_095_931, "resnet101": 113_754_683}
    for variant, count in expected.items():
        method = MNC(Task(), MNC.make_params(variant, {"fit_to_task": False}))
        with torch.device("meta"):
            built = method._build("imagenet")
        assert sum(p.numel() for p in built.parameters()) == count


def test_three_hundred_cells_keep_their_three_hundred_predictions():
    task = Task(objects=ObjectStatistics(16, 16, 16, 1.0, 300, 300), image_shape=(240, 320), max_detections=300)
    method = MNC(
        task, MNC.make_params("", {**NARROW, "image_scale": (320, 240), "anchor_ratios": (1.0,), "fit_to_task": True})
    )
    built = method._build("random")
    built.init_weights()
    method._ready(built)
    image = np.random.default_rng(0).integers(0, 256, (240, 320), dtype=np.uint8)
    found = method.predict(image)
    # Untrained, every anchor is a proposal and every mask fills its box: one instance for each cell of the grid.
    assert len(found) == 300
    assert (found.areas > 100).all()
