"""FCIS's network: maps, losses, hard examples, targets, two rounds, parameter counts."""

import contextlib
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

import bench.ops  # noqa: E402

bench.ops.import_mmdet()

from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from bench.api import Instances, ObjectStatistics, Task  # noqa: E402
from methods import _runner  # noqa: E402
from methods._rois import IGNORED, Truth, label_rois  # noqa: E402
from methods.fcis import FCIS  # noqa: E402
from methods.fcis.head import BOX_OUTPUTS, Answers, FCISRoIHead, Targets, hardest, roi_losses  # noqa: E402
from methods.fcis.pooling import SummedMaps  # noqa: E402

NARROW = {
    "depth": 18,
    "base_channels": 8,
    "rpn_channels": 16,
    "reduced_channels": 16,
    "image_scale": (128, 128),
    "enlarge": 1.0,
    "proposals": 20,
    "rois": 16,
    "fit_to_task": False,
}


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
    method = FCIS(task or Task(), FCIS.make_params(variant, {**NARROW, **settings}))
    built = method._build(init)
    if init == "random":  # ImageNet's weights would be downloaded
        built.init_weights()
    return built


def head(**settings):
    built = FCISRoIHead(**{"in_channels": 8, "num_classes": 2, "channels": 8, "rois": 4, **settings})
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


def truth_of(boxes, classes=None, shape=(128, 128), ignored=()):
    made = sample(boxes, shape, ignored)
    return Truth(
        made.gt_instances.bboxes,
        torch.tensor(classes or [0] * len(boxes), dtype=torch.long),
        made.gt_instances.masks.to_ndarray(),
        made.ignored_instances.bboxes,
    )


def total(losses):
    return sum(v if torch.is_tensor(v) else sum(v) for v in losses.values())


def hand_made_maps(classes, height=8, width=8):
    """Maps that are the same at every place.

    Args:
        classes: for each class, background last: outside and inside scores, each a number or 7 x 7 of them.
    """
    maps = torch.zeros(len(classes), 2, 7, 7)
    for index, pair in enumerate(classes):
        for part, scores in enumerate(pair):
            maps[index, part] = torch.as_tensor(scores, dtype=torch.float32)
    flat = torch.cat([maps.flatten(), torch.zeros(BOX_OUTPUTS * 49)])
    return flat[:, None, None].expand(-1, height, width).contiguous()


# -- the joint answer -------------------------------------------------------------------------------------


def test_class_scores_are_the_mean_of_the_larger_of_outside_and_inside():
    parts = torch.randn(3, 2, 2, 21, 21)
    answers = Answers(parts, torch.zeros(3, 4))
    for n in range(3):
        for k in range(2):
            larger = np.maximum(parts[n, k, 0].numpy(), parts[n, k, 1].numpy())
            assert answers.classes()[n, k].item() == pytest.approx(larger.mean(), abs=1e-6)


def test_a_mask_is_the_softmax_of_inside_over_outside_of_the_chosen_class():
    parts = torch.randn(2, 3, 2, 21, 21)
    masks = Answers(parts, torch.zeros(2, 4)).masks(torch.tensor([2, 0])).sigmoid()
    assert torch.allclose(masks[0], parts[0, 2].softmax(dim=0)[1], atol=1e-6)
    assert torch.allclose(masks[1], parts[1, 0].softmax(dim=0)[1], atol=1e-6)


def test_hand_made_maps_give_a_known_mask_class_and_score_wherever_the_roi_lies():
    shape = torch.zeros(7, 7)
    shape[1:6, 2:5] = 1
    shape[5, :] = 1
    built = network(task=Task(classes=("a", "b")))
    maps = hand_made_maps([(-9.0, -9.0), (4 - 8 * shape, 8 * shape - 4), (0.0, 0.0)], 16, 20)
    boxes = torch.tensor([[16.0, 16.0, 128.0, 128.0], [150.0, 80.0, 310.0, 240.0]])
    found = built.roi_head.predict(maps, boxes, (256, 320))
    assert [len(part) for part in found] == [4, 4, 4]  # both rounds
    assert torch.allclose(found[0], boxes.repeat(2, 1))  # no deltas: the same RoIs again
    one = sample([], (256, 320))
    voted = built._vote(*found, one, rescale=True)
    assert voted.labels.tolist() == [1, 1]
    # Larger of the two is 4 at every bin of class b, -9 of class a, 0 of the background.
    sure = math.exp(4) / (math.exp(4) + math.exp(-9) + 1)
    assert voted.scores.tolist() == pytest.approx([sure, sure], abs=1e-5)
    masks = Instances(256, 320, tuple(voted.rles)).to_masks()
    for mask, (x0, y0, side) in zip(masks, [(16, 16, 112), (150, 80, 160)], strict=True):
        rows, columns = np.mgrid[:256, :320]
        i, j = (rows + 0.5 - y0) / side * 7, (columns + 0.5 - x0) / side * 7
        inside = (i >= 0) & (i < 7) & (j >= 0) & (j < 7)
        expected = np.zeros((256, 320), bool)
        expected[inside] = shape.numpy()[i[inside].astype(int), j[inside].astype(int)] > 0
        # Bilinear between 21 samples a side: exact half a sample (a sixth of a part) away from a part's edge.
        clear = inside & (np.abs(i - np.rint(i)) > 1 / 6) & (np.abs(j - np.rint(j)) > 1 / 6)
        assert np.array_equal(mask[clear], expected[clear])
        assert not mask[~inside].any()
        assert (mask & expected).sum() / (mask | expected).sum() > 0.9


def test_the_mask_is_of_the_likeliest_foreground_class_also_where_background_is_likelier():
    built = head()
    maps = hand_made_maps([(0.0, 1.0), (3.0, 0.0), (9.0, 9.0)])
    _, masks, scores = built.predict(maps, torch.tensor([[16.0, 16.0, 112.0, 112.0]]), (128, 128))
    assert scores.shape == (2, 2)
    assert scores.sum(dim=1).max() < 0.01
    assert torch.allclose(masks, torch.tensor(1 / (1 + math.exp(3))))  # of the second class


def test_the_second_round_pools_where_the_first_has_moved_the_boxes():
    built = head()
    maps = hand_made_maps([(0.0, 1.0), (0.0, 0.0), (0.0, 0.0)])
    # A quarter of a width to the right (deviation 0.2), and e times as high, clipped at the image (deviation 0.5).
    maps[-4 * 49 : -3 * 49] = 0.25 / 0.2
    maps[-1 * 49 :] = 1 / 0.5
    maps[:49, :, 4:] = 7.0  # class 0, outside, in the right half of the map
    box = torch.tensor([[16.0, 32.0, 48.0, 64.0]])
    boxes, masks, _ = built.predict(maps, box, (128, 128))
    half = 16 * math.e
    assert boxes[1].tolist() == pytest.approx([24, 48 - half, 56, 48 + half], abs=1e-3)
    assert masks[0, 0, -1] == pytest.approx(1 / (1 + math.exp(-1)))  # ends where the right half begins
    far = torch.tensor([[30.0, 32.0, 62.0, 64.0]])
    boxes, masks, _ = built.predict(maps, far, (128, 80))
    assert boxes[1].tolist() == pytest.approx([38, 48 - half, 70, 48 + half], abs=1e-3)
    assert masks[1, 0, -1] == pytest.approx(1 / (1 + math.exp(6)))  # now in the right half


def test_candidates_that_are_too_small_are_dropped():
    built = head(smallest=16)
    maps = hand_made_maps([(0.0, 1.0), (0.0, 0.0), (0.0, 0.0)])
    boxes, masks, scores = built.predict(
        maps, torch.tensor([[0.0, 0.0, 15.0, 90.0], [0.0, 0.0, 16.0, 90.0]]), (128, 128)
    )
    assert boxes.tolist() == [[0, 0, 16, 90]] * 2
    assert (len(masks), len(scores)) == (2, 2)


def test_no_proposal_gives_no_candidate():
    boxes, masks, scores = head().predict(
        hand_made_maps([(0.0, 1.0), (0.0, 0.0), (0.0, 0.0)]), torch.zeros(0, 4), (128, 128)
    )
    assert (boxes.shape, masks.shape, scores.shape) == ((0, 4), (0, 21, 21), (0, 2))


def test_more_rois_than_fit_into_a_chunk_are_answered_in_order():
    maps = torch.randn(2 * 3 * 49 + 4 * 49, 8, 8)
    boxes = torch.rand(11, 4) * 60
    boxes[:, 2:] += boxes[:, :2] + 4
    whole, chunked = head(chunk=100), head(chunk=3)
    for one, other in zip(
        whole.predict(maps, boxes, (128, 128)), chunked.predict(maps, boxes, (128, 128)), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-6)


# -- losses -----------------------------------------------------------------------------------------------


def test_losses_of_hand_made_answers_and_their_normalisation():
    built = head(rois=8)
    maps = hand_made_maps([(0.0, 0.0)] * 3).requires_grad_()
    truth = truth_of([(32, 32, 64, 64)], [1])
    near = [36.0, 32.0, 68.0, 64.0]  # IoU 28 / 36 with the object
    far = [80.0, 80.0, 100.0, 100.0]
    losses = built.loss(maps, torch.tensor([near, far]), truth, (128, 128))
    assert sorted(losses) == ["loss_bbox", "loss_cls", "loss_mask"]
    # Three RoIs (the true box is one), each as sure of one class as of the others: the mean over the three.
    assert losses["loss_cls"].item() == pytest.approx(math.log(3))
    # Two of them are objects: the mean over 441 bins is log 2 each; ten times their sum over 8 RoIs, not over 2 or 3.
    assert losses["loss_mask"].item() == pytest.approx(10 * 2 * math.log(2) / 8)
    # The near one should move by -4 px of 32, in units of 0.2: smooth L1 of 0.625. Over 8.
    assert losses["loss_bbox"].item() == pytest.approx(0.5 * 0.625**2 / 8)


def test_the_losses_of_each_roi():
    parts = torch.zeros(3, 2, 2, 2, 2)
    parts[0, 0, 1] = torch.tensor([[3.0, 3.0], [0.0, 0.0]])  # inside
    answers = Answers(parts, torch.tensor([[0.5, 0, 0, 3.0]]).repeat(3, 1))
    mask = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    targets = Targets(
        torch.tensor([0, 1, IGNORED]),
        torch.tensor([True, False, False]),
        torch.stack([mask, torch.zeros(2, 2), torch.zeros(2, 2)]),
        torch.zeros(3, 4),
    )
    losses = roi_losses(answers, targets)
    say = (3 + 3 + 0 + 0) / 4  # class 0: mean of the larger
    right, wrong = math.log1p(math.exp(-3)), math.log1p(math.exp(3))
    assert losses.classes.tolist() == pytest.approx([math.log1p(math.exp(-say)), math.log(2), 0], abs=1e-5)
    assert losses.masks.tolist() == pytest.approx([(right + wrong + 2 * math.log(2)) / 4, 0, 0], abs=1e-5)
    assert losses.boxes.tolist() == pytest.approx([0.125 + 2.5, 0, 0])


def test_a_background_roi_teaches_no_mask_and_no_box():
    built = head(rois=4)
    maps = torch.randn(2 * 3 * 49 + 4 * 49, 8, 8, requires_grad=True)
    losses = built.loss(maps, torch.tensor([[80.0, 80.0, 100.0, 100.0]]), truth_of([]), (128, 128))
    assert losses["loss_mask"].item() == losses["loss_bbox"].item() == 0
    (gradient,) = torch.autograd.grad(total(losses), maps)
    assert gradient[-4 * 49 :].abs().max() == 0
    assert gradient[: -4 * 49].abs().max() > 0
    nothing = built.loss(maps, torch.zeros(0, 4), truth_of([]), (128, 128))
    assert total(nothing).item() == 0
    total(nothing).backward()
    assert maps.grad.abs().max() == 0


# -- which RoIs, and as what ------------------------------------------------------------------------------


def test_the_hardest_are_those_of_highest_loss_ignored_ones_aside():
    losses = torch.tensor([0.1, 5.0, 3.0, 9.0, 3.0, 0.2])
    classes = torch.tensor([1, 0, 1, IGNORED, 0, 1])
    assert hardest(losses, classes, 3).tolist() == [1, 2, 4]
    assert hardest(losses, classes, 2).tolist() == [1, 2]  # ties by index
    assert hardest(losses, classes, 100).tolist() == [1, 2, 4, 5, 0]
    assert hardest(losses[:0], classes[:0], 3).tolist() == []


def test_training_is_on_the_rois_of_highest_loss_by_all_three_losses():
    built = head(rois=2)
    # On the left everything is said to be background by 5, on the right to be class 0 by 5.
    maps = hand_made_maps([(0.0, 0.0), (0.0, 0.0), (5.0, 5.0)])
    maps[:98, :, 4:] = 5.0
    maps[4 * 49 : 6 * 49, :, 4:] = 0.0
    maps.requires_grad_()
    left = [[0.0, 0.0, 32.0, 32.0], [0.0, 80.0, 32.0, 112.0]]
    right = [[96.0, 0.0, 128.0, 32.0], [96.0, 80.0, 128.0, 112.0]]
    losses = built.loss(maps, torch.tensor([left[0], right[0], left[1], right[1]]), truth_of([]), (128, 128))
    easy, hard = math.log(1 + 2 * math.exp(-5)), math.log(2 + math.exp(5))
    assert losses["loss_cls"].item() == pytest.approx(hard, rel=1e-4)
    (gradient,) = torch.autograd.grad(total(losses), maps)
    assert gradient[..., :4].abs().max() == 0  # the easy ones teach nothing
    assert gradient[..., 4:].abs().max() > 0
    # An object on the left, whose class, mask (10 log 2) and box are wrong, goes before them.
    truth = truth_of([(0, 0, 32, 32)])
    losses = built.loss(maps, torch.tensor([right[0], left[1], right[1]]), truth, (128, 128))
    missed = math.log(2 + math.exp(5))
    assert losses["loss_cls"].item() == pytest.approx((missed + hard) / 2, rel=1e-4)
    assert losses["loss_mask"].item() == pytest.approx(10 * math.log(2) / 2, rel=1e-4)
    every = head(rois=9).loss(maps, torch.tensor([left[0], right[0]]), truth_of([]), (128, 128))
    assert every["loss_cls"].item() == pytest.approx((easy + hard) / 2, rel=1e-4)


def test_the_mask_loss_counts_ten_times_when_the_hardest_are_chosen():
    built = head(rois=1)
    truth = truth_of([(0, 0, 32, 32)])
    # The object is known to be one (class loss 0.03); its mask is unknown (0.69, ten times: 6.9).
    # Elsewhere the background is missed by 5 (class loss 5).
    maps = hand_made_maps([(5.0, 5.0), (0.0, 0.0), (0.0, 0.0)])
    losses = built.loss(maps, torch.tensor([[80.0, 80.0, 112.0, 112.0]]), truth, (128, 128))
    assert losses["loss_cls"].item() < 0.1
    assert losses["loss_mask"].item() == pytest.approx(10 * math.log(2))


def test_without_hard_examples_a_quarter_of_the_sample_is_foreground_and_near_misses_go_first():
    settings = {"hard_examples": False, "rois": 8, "sampling": {"foreground_share": 0.25, "near_share": 1.0}}
    built = head(**settings)
    truth = truth_of([(0, 0, 32, 32)])
    boxes = torch.tensor([[0.0, 0, 32, 32]] * 5 + [[16.0, 0, 48, 32]] * 4 + [[90.0, 90, 120, 120]] * 9)
    labels = label_rois(boxes, truth.boxes, truth.classes, background=2, foreground_iou=0.5)
    maps = SummedMaps.of(hand_made_maps([(0.0, 0.0)] * 3), 7)
    chosen = built.chosen(maps, boxes, labels, built.targets(boxes, labels, truth))
    assert len(chosen) == len(set(chosen.tolist())) == 8
    assert [int(((chosen >= a) & (chosen < b)).sum()) for a, b in ((0, 5), (5, 9), (9, 18))] == [2, 4, 2]


def test_targets_of_hand_made_rois():
    built = head()
    truth = truth_of([(20, 20, 40, 60), (60, 60, 100, 100)], [1, 0], ignored=[(0, 100, 40, 128)])
    boxes = torch.tensor(
        [
            [20.0, 20.0, 40.0, 40.0],  # the upper half of the first: IoU 0.5, an object
            [20.0, 20.0, 40.0, 39.0],  # less: background
            [60.0, 60.0, 100.0, 120.0],  # the second, and below it
            [0.0, 100.0, 30.0, 128.0],  # where nobody knows
        ]
    )
    labels = label_rois(
        boxes, truth.boxes, truth.classes, background=2, foreground_iou=0.5, ignored_boxes=truth.ignored
    )
    targets = built.targets(boxes, labels, truth)
    assert targets.classes.tolist() == [1, 2, 0, IGNORED]
    assert targets.foreground.tolist() == [True, False, True, False]
    assert targets.masks.shape == (4, 21, 21)
    assert targets.masks[0].min() == 1
    assert targets.masks[1].max() == targets.masks[3].max() == 0
    # 21 samples over 60 px: those whose centre is above 100 px (14 x 60 / 21 = 40) are of the object.
    assert targets.masks[2].mean(dim=1).tolist() == [1.0] * 14 + [0.0] * 7
    # From (30, 30), 20 x 20, to (30, 40), 20 x 40, in units of 0.2 and 0.5.
    assert targets.deltas[0].tolist() == pytest.approx([0, 0.5 / 0.2, 0, math.log(2) / 0.5])
    assert targets.deltas[2].tolist() == pytest.approx([0, -10 / 60 / 0.2, 0, math.log(40 / 60) / 0.5])
    assert targets.deltas[[1, 3]].abs().max() == 0
    taken = targets.take(torch.tensor([2, 0]))
    assert taken.classes.tolist() == [0, 1]
    assert torch.equal(taken.masks, targets.masks[[2, 0]])


def test_what_cannot_be_divided_into_parts_is_refused():
    with pytest.raises(ValueError, match="parts"):
        head(mask_size=20)


# -- the whole --------------------------------------------------------------------------------------------


def test_res5_is_dilated_and_both_stages_see_stride_16():
    built = network(depth=50)
    strided = [(n, m) for n, m in built.backbone.named_modules() if getattr(m, "stride", None) == (2, 2)]
    # Caffe's ResNet: the first 1 x 1 of a stage has its stride (and the shortcut beside it), the 3 x 3 never.
    assert [name for name, _ in strided] == [
        *("conv1", "layer2.0.conv1", "layer2.0.downsample.0", "layer3.0.conv1", "layer3.0.downsample.0"),
    ]
    dilated = [name for name, m in built.backbone.named_modules() if getattr(m, "dilation", 1) == (2, 2)]
    assert dilated == [f"layer4.{block}.conv2" for block in range(3)]
    res4, maps = built.extract_feat(torch.randn(1, 3, 96, 64))
    assert res4.shape == (1, 4 * 4 * 8, 6, 4)
    assert maps.shape == (1, (2 * 2 + 4) * 49, 6, 4)
    assert built.rpn_head.rpn_conv.in_channels == res4.shape[1]
    assert built.roi_head.reduce.in_channels == 2 * res4.shape[1]


@pytest.mark.parametrize("norm", ["group", "frozen"])
@pytest.mark.parametrize("variant", ["", "voc"])
def test_it_trains_on_images_with_one_object_with_none_and_with_ignored_ones_and_predicts_them(variant, norm):
    built = network(variant=variant, norm=norm)
    built.train()
    images = torch.randn(3, 3, 128, 128)
    samples = [
        sample([(8, 8, 40, 40), (60, 70, 100, 120)]),
        sample([], ignored=[(0, 0, 50, 50)]),
        sample([(2, 3, 9, 9)]),
    ]
    losses = built.loss(images, samples)
    total(losses).backward()
    assert torch.isfinite(total(losses))
    learning = [p for p in built.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learning)
    for index in (1, 2):
        assert torch.isfinite(total(built.loss(images[index : index + 1], samples[index : index + 1])))
    with torch.inference_mode():
        for result in built.eval().predict(images, samples):
            found = result.pred_instances
            assert len(found.rles) == len(found.scores) == len(found.labels) == len(found.bboxes)


def test_the_roi_losses_teach_the_backbone_and_not_the_proposals():
    built = network()
    losses = built.loss(torch.randn(1, 3, 128, 128), [sample([(8, 8, 40, 40), (60, 70, 100, 120)])])
    later = sum(v for name, v in losses.items() if "rpn" not in name)
    ours = [built.backbone.conv1.weight, built.roi_head.reduce.weight, built.roi_head.class_maps.weight]
    gradients = torch.autograd.grad(later, [*ours, built.rpn_head.rpn_reg.weight], allow_unused=True)
    assert all(gradient.abs().max() > 0 for gradient in gradients[:-1])
    assert gradients[-1] is None


def test_predictions_are_in_pixels_of_the_original_image():
    built = network().eval()
    one = sample([])
    one.set_metainfo({"ori_shape": (64, 40), "scale_factor": (2.0, 2.0), "img_shape": (128, 80)})
    phases = []

    def phase(name):
        phases.append(name)
        return contextlib.nullcontext()

    built.phase = phase
    with torch.inference_mode():
        (result,) = built.predict(torch.randn(1, 3, 128, 80), [one])
    found = result.pred_instances
    assert phases == ["postprocess"]
    assert len(found.rles) > 0
    assert (found.bboxes[:, 2] <= 40).all()
    assert (found.bboxes[:, 3] <= 64).all()
    assert Instances(64, 40, tuple(found.rles)).checked().shape == (64, 40)


def test_from_imagenet_the_backbone_is_the_published_one_and_from_random_weights_it_is_normalised_by_groups():
    published, random = network("imagenet", depth=50, base_channels=64), network("random")
    norms = {type(m).__name__ for m in published.modules() if "Norm" in type(m).__name__}
    assert norms == {"BatchNorm2d"}
    frozen = {name for name, p in published.named_parameters() if not p.requires_grad}
    assert {name for name in frozen if "conv" in name or "downsample.0" in name} == {
        name
        for name, p in published.named_parameters()
        if p.ndim == 4 and name.startswith(("backbone.conv1.", "backbone.layer1."))
    }
    assert all(
        "bn" in name or "downsample.1" in name or name.startswith(("backbone.conv1", "backbone.layer1"))
        for name in frozen
    )
    published.train()
    assert not any(m.training for m in published.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert {type(m).__name__ for m in random.modules() if "Norm" in type(m).__name__} == {"GroupNorm"}
    assert all(p.requires_grad for p in random.parameters())


def test_imagenet_weights_see_blue_green_red_around_their_mean():
    pixels = torch.zeros(3, 32, 32, dtype=torch.uint8)
    for channel, value in enumerate((200, 100, 50)):  # red, green, blue
        pixels[channel] = value

    def seen(built):
        return built.data_preprocessor({"inputs": [pixels], "data_samples": [sample([], (32, 32))]})["inputs"][
            0, :, 0, 0
        ]

    assert seen(network(norm="frozen")).tolist() == pytest.approx([50 - 103.53, 100 - 116.28, 200 - 123.675], abs=1e-3)
    assert seen(network()).tolist() == pytest.approx(
        [(200 - 123.675) / 58.395, (100 - 116.28) / 57.12, (50 - 103.53) / 57.375], abs=1e-3
    )


def bottlenecks(count, width, in_channels):
    """Parameters of a ResNet stage: 1 x 1, 3 x 3, 1 x 1 without biases, scale and shift after each."""
    out = 4 * width

    def block(inward):
        return inward * width + 9 * width * width + width * out + 2 * (width + width + out)

    return block(in_channels) + in_channels * out + 2 * out + (count - 1) * block(out)


@pytest.mark.parametrize(("classes", "count"), [(1, 49_756_176), (80, 57_691_726)])
def test_parameter_counts_against_a_derivation_by_hand(classes, count):
    def convolution(inward, out, side=1):
        return inward * out * side * side + out

    resnet = 7 * 7 * 3 * 64 + 2 * 64
    for blocks, width, inward in ((3, 64, 64), (4, 128, 256), (23, 256, 512), (3, 512, 1024)):
        resnet += bottlenecks(blocks, width, inward)
    assert resnet + 2048 * 1000 + 1000 == 44_549_160  # torchvision's resnet101
    rpn = convolution(1024, 512, 3) + convolution(512, 2 * 12) + convolution(512, 4 * 12)
    maps = convolution(2048, 1024) + convolution(1024, 49 * 2 * (classes + 1)) + convolution(1024, 49 * 4)
    assert resnet + rpn + maps == count
    # The authors' network has box maps of the background as well.
    authors = count + convolution(1024, 49 * 4)
    assert abs(count / authors - 1) < 0.005
    method = FCIS(Task(classes=tuple(map(str, range(classes)))), FCIS.make_params("", {"fit_to_task": False}))
    for init in ("imagenet", "random"):
        with torch.device("meta"):
            built = method._build(init)
        assert sum(p.numel() for p in built.parameters()) == count


def test_multiply_adds_against_a_derivation_by_hand():
    """Caffe's strides: every convolution of a stage, its first included, is reckoned at the stage's resolution."""

    def stage(blocks, width, inward):
        normalised = blocks * 2 * (width + width + 4 * width) + 2 * 4 * width
        return bottlenecks(blocks, width, inward) - normalised

    height, width = 608, 1008  # a photograph of 600 x 1000, padded
    kernels = {4: 7 * 7 * 3 * 64, 16: stage(3, 64, 64), 64: stage(4, 128, 256)}
    heads = 1024 * 512 * 9 + 512 * 6 * 12 + 2048 * 1024 + 1024 * 49 * (2 * 2 + 4)
    kernels[256] = stage(23, 256, 512) + stage(3, 512, 1024) + heads
    expected = sum(count * height * width // cells for cells, count in kernels.items())

    method = FCIS(Task(), FCIS.make_params("", {"fit_to_task": False}))
    with torch.device("meta"):
        built = method._build("imagenet")
    counted = []
    for module in built.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda m, _, out: counted.append(m.weight.numel() * out[0, 0].numel()))
    res4, _ = built.extract_feat(torch.empty(1, 3, height, width, device="meta"))
    built.rpn_head((res4,))
    assert len(counted) == 104 + 6
    assert sum(counted) == expected
    # The authors' network has box maps of the background as well.
    assert expected / (expected + 1024 * 49 * 4 * height * width // 256) > 0.99


def test_three_hundred_cells_keep_their_three_hundred_predictions():
    task = Task(objects=ObjectStatistics(16, 16, 16, 1.0, 300, 300), image_shape=(240, 320), max_detections=300)
    settings = {**NARROW, "image_scale": (320, 240), "anchor_ratios": (1.0,), "fit_to_task": True}
    method = FCIS(task, FCIS.make_params("", settings))
    built = method._build("random")
    built.init_weights()
    method._ready(built)
    found = method.predict(np.random.default_rng(0).integers(0, 256, (240, 320), dtype=np.uint8))
    # Untrained, every anchor is a proposal and every mask fills its box: one instance for each cell of the grid.
    assert len(found) == 300
    assert (found.areas > 100).all()
