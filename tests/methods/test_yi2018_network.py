"""Yi 2018's network: default boxes, fusion, matching and mining, crops, masks, parameter and operation counts."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

import bench.ops  # noqa: E402

bench.ops.import_mmdet()

from mmdet.models.backbones import ResNet  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from torch.nn import functional  # noqa: E402

from bench import rle  # noqa: E402
from bench.api import Task  # noqa: E402
from methods import _runner  # noqa: E402
from methods.yi2018 import Yi2018  # noqa: E402
from methods.yi2018.backbone import Yi2018VGG16  # noqa: E402
from methods.yi2018.head import Yi2018DefaultBoxes  # noqa: E402
from methods.yi2018.mask import Window, Yi2018MaskHead, crops, mask_loss, window_of  # noqa: E402
from methods.yi2018.neck import Yi2018Neck  # noqa: E402


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
    built = Yi2018(task or Task(), Yi2018.make_params(variant, settings))._build(init)
    if init == "random":  # ImageNet's weights would be downloaded
        built.init_weights()
    return built


@pytest.fixture(scope="module")
def published():
    """The published network, once: 40 million weights."""
    _runner.quiet_loggers()
    return network("checkpoint")


def sample(boxes, shape=(128, 128), ori_shape=None, ignored=()):
    masks = np.zeros((len(boxes), *shape), np.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = 1
    ori_shape = ori_shape or shape
    one = DetDataSample(
        metainfo={
            "img_shape": shape,
            "pad_shape": shape,
            "batch_input_shape": shape,
            "ori_shape": ori_shape,
            "scale_factor": (shape[1] / ori_shape[1], shape[0] / ori_shape[0]),
        }
    )
    one.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.zeros(len(boxes), dtype=torch.long),
        masks=BitmapMasks(masks, *shape),
    )
    one.ignored_instances = InstanceData(bboxes=torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4))
    return one


# -- default boxes ----------------------------------------------------------------------------------------


def test_there_are_24544_default_boxes(published):
    grid = published.bbox_head.prior_generator.grid_priors([(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)], device="cpu")
    assert [len(boxes) for boxes in grid] == [4 * 64**2, 6 * 32**2, 6 * 16**2, 6 * 8**2, 6 * 4**2]
    assert sum(len(boxes) for boxes in grid) == 24_544
    # All of them lie around the centres of the cells of their map.
    for boxes, stride in zip(grid, (8, 16, 32, 64, 128), strict=True):
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        assert centres.min().item() == pytest.approx(stride / 2, abs=1e-3)
        assert centres.max().item() == pytest.approx(512 - stride / 2, abs=1e-3)


def test_default_boxes_have_the_published_sizes(published):
    boxes = published.bbox_head.prior_generator.base_anchors
    scales = (0.04, 0.10, 0.26, 0.42, 0.58, 0.74)
    for level, of_a_cell in enumerate(boxes):
        least, most = 512 * scales[level], 512 * scales[level + 1]
        expected = {(least, least), (math.sqrt(least * most),) * 2}
        for ratio in (2,) if level == 0 else (2, 3):
            long, short = least * math.sqrt(ratio), least / math.sqrt(ratio)
            expected |= {(long, short), (short, long)}
        sides = {tuple(round(v, 3) for v in side) for side in (of_a_cell[:, 2:] - of_a_cell[:, :2]).tolist()}
        assert sides == {tuple(round(v, 3) for v in side) for side in expected}
    # As the paper says: below 0.1 of the image on block 3, up to 0.75 on block 7.
    assert (boxes[0][:, 2:] - boxes[0][:, :2]).prod(dim=1).sqrt().max().item() / 512 < 0.1
    assert 0.58 < (boxes[4][:, 2:] - boxes[4][:, :2]).prod(dim=1).sqrt().max().item() / 512 < 0.75


def test_finer_boxes_are_added_to_block_3_and_nothing_else_changes():
    arguments = {
        "scale_major": False,
        "strides": [8, 16],
        "ratios": [[2], [2, 3]],
        "min_sizes": [20.0, 50.0],
        "max_sizes": [50.0, 130.0],
    }
    plain = Yi2018DefaultBoxes(**arguments).base_anchors
    finer = Yi2018DefaultBoxes(finer=2, **arguments).base_anchors
    assert torch.equal(finer[0][:4], plain[0])
    assert torch.equal(finer[1], plain[1])
    sides = (finer[0][4:, 2:] - finer[0][4:, :2]).tolist()
    root = math.sqrt(2)
    assert sides == [
        pytest.approx(side)
        for least in (10.0, 5.0)
        for side in (
            (least, least),
            (least * root, least / root),
            (least / root, least * root),
            (least * root, least * root),
        )
    ]
    assert torch.allclose((finer[0][:, :2] + finer[0][:, 2:]) / 2, torch.tensor(4.0))


# -- blocks and fusion ------------------------------------------------------------------------------------


def test_block_1_is_conv1_before_its_pooling_and_the_rest_is_mmdetections_resnet(narrow_yi2018):
    built = network(**narrow_yi2018).backbone
    reference = ResNet(18, base_channels=8, norm_cfg={"type": "GN", "num_groups": 4})
    missing = reference.load_state_dict(built.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(name.startswith("layer4") for name in missing.missing_keys)
    images = torch.randn(2, 3, 64, 96)
    blocks = built(images)
    assert [tuple(block.shape[1:]) for block in blocks] == [(8, 32, 48), (8, 16, 24), (16, 8, 12), (32, 4, 6)]
    for block, expected in zip(blocks[1:], reference(images), strict=False):
        assert torch.equal(block, expected)
    pooled = functional.max_pool2d(blocks[0], 3, 2, 1)
    assert torch.equal(built.layer1(pooled), blocks[1])


@pytest.mark.parametrize("variant", ["", "vgg16"])
def test_at_512_every_block_has_the_published_shape(variant, published):
    built = published if variant == "" else network("checkpoint", variant)
    detected, maps = built.eval().extract_feat(torch.zeros(1, 3, 128, 128))  # a quarter of 512
    shapes = [(512, 16), (1024, 8), (512, 4), (256, 2), (256, 1)]
    assert [tuple(block.shape) for block in detected] == [(1, c, s, s) for c, s in shapes]
    first = 64 if variant == "" else 128
    shapes = [(first, 64), (256, 32), (512, 16), (1024, 8)]
    assert [tuple(block.shape) for block in maps] == [(1, c, s, s) for c, s in shapes]
    assert maps[2] is detected[0]  # the fused map takes the place of block 3 in both


def test_fusion_is_reduction_enlargement_concatenation_normalisation_and_expansion():
    neck = Yi2018Neck((4, 6), (8, 4, 4), 3, 5, {"type": "BN"}).eval()
    neck.init_weights()
    for statistic, low in ((neck.norm.running_mean, -1.0), (neck.norm.running_var, 0.5)):
        torch.nn.init.uniform_(statistic, low, 1.0)
    third, fourth = torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)
    fused, *deeper = neck((third, fourth))
    assert torch.equal(deeper[0], fourth)
    assert [tuple(block.shape[1:]) for block in deeper] == [(6, 4, 4), (8, 2, 2), (4, 1, 1), (4, 1, 1)]
    state = neck.state_dict()
    parts = []
    for index, block in enumerate((third, fourth, deeper[1])):
        reduced = torch.einsum("oc,bchw->bohw", state[f"reduce.{index}.weight"][:, :, 0, 0], block)
        reduced = reduced + state[f"reduce.{index}.bias"][:, None, None]
        parts.append(functional.interpolate(reduced, (8, 8), mode="bilinear", align_corners=False))
    joined = torch.cat(parts, dim=1)
    mean, variance = state["norm.running_mean"][:, None, None], state["norm.running_var"][:, None, None]
    joined = (joined - mean) / (variance + 1e-5).sqrt()
    expected = torch.einsum("oc,bchw->bohw", state["fuse.conv.weight"][:, :, 0, 0], joined)
    expected = (expected + state["fuse.conv.bias"][:, None, None]).relu()
    assert torch.allclose(fused, expected, atol=1e-5)


def test_imagenets_vgg_16_fills_every_convolution_its_last_two_thinned_out():
    built = Yi2018VGG16()
    generator = torch.Generator().manual_seed(3)
    state = {}
    for number, convolution in enumerate(built.convolutions()):
        state[f"c{number}.weight"] = torch.randn(convolution.weight.shape, generator=generator)
        state[f"c{number}.bias"] = torch.randn(convolution.bias.shape, generator=generator)
    # Row r, column c holds r + c / 32768: exact in float32, and without 400 MB of memory.
    state["fc6.weight"] = torch.arange(512 * 49).expand(4096, -1)
    state["fc6.bias"] = torch.arange(4096.0)
    state["fc7.weight"] = torch.arange(4096).expand(4096, -1)
    state["fc7.bias"] = torch.arange(4096.0)
    built.put_imagenet(state)
    for number, convolution in enumerate(built.convolutions()):
        assert torch.equal(convolution.weight, state[f"c{number}.weight"])
        assert torch.equal(convolution.bias, state[f"c{number}.bias"])
    fc6, fc7 = built.features[31], built.features[33]
    assert (fc6.kernel_size, fc6.dilation) == ((3, 3), (6, 6))
    assert torch.equal(fc6.weight[7], (torch.arange(512 * 49).view(512, 7, 7)[:, ::3, ::3]).float())
    assert torch.equal(fc6.bias, torch.arange(0, 4096, 4.0))
    assert torch.equal(fc7.weight[5, :, 0, 0], torch.arange(0, 4096, 4.0))
    with pytest.raises(ValueError, match="not of a VGG-16"):
        built.put_imagenet({"weight": torch.zeros(3, 3, 3, 3)})


# -- matching, mining, suppression ------------------------------------------------------------------------


def targets(built, one):
    """Labels and box targets of all default boxes of a 128 x 128 image, with the boxes."""
    head, sizes = built.bbox_head, [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    anchors, flags = head.get_anchors(sizes, [one.metainfo], device="cpu")
    labels, weights, wanted, _, positives = head.get_targets(
        anchors, flags, [one.gt_instances], [one.metainfo], [one.ignored_instances]
    )
    flat = (torch.cat(list(part), dim=1)[0] for part in (labels, weights, wanted))
    return torch.cat(anchors[0]), *flat, positives


def overlap(box, boxes):
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared)


def test_a_default_box_is_an_object_from_an_overlap_of_half_on_and_each_objects_best_always(narrow_yi2018):
    built = network(**narrow_yi2018)
    objects = [(2, 2, 22, 22), (90, 50, 94, 53), (40, 40, 100, 110)]  # the second is smaller than half of any box
    boxes, labels, _, wanted, positives = targets(built, sample(objects))
    each = np.stack([overlap(np.array(o, float), boxes.numpy().astype(float)) for o in objects])
    expected = (each >= 0.5).any(axis=0)
    assert not expected[each[1] > 0].any() or each[1].max() < 0.5
    expected[each.argmax(axis=1)] = True
    assert ((labels == 0).numpy() == expected).all()
    assert positives == expected.sum()
    assert labels[each[1].argmax()] == 0
    # Offsets are in units of the variances: centre over 0.1 of the box's side, logarithm of the side over 0.2.
    best = int(each[2].argmax())
    x0, y0, x1, y1 = boxes[best].tolist()
    w, h = x1 - x0, y1 - y0
    assert wanted[best].tolist() == pytest.approx(
        [
            (70 - (x0 + x1) / 2) / w / 0.1,
            (75 - (y0 + y1) / 2) / h / 0.1,
            math.log(60 / w) / 0.2,
            math.log(70 / h) / 0.2,
        ],
        rel=1e-4,
    )


def test_boxes_in_an_ignored_region_are_neither_objects_nor_background(narrow_yi2018):
    built = network(**narrow_yi2018)
    boxes, _, weights, _, _ = targets(built, sample([(2, 2, 22, 22)], ignored=[(64, 64, 128, 128)]))
    inside = ((boxes[:, :2] >= 64) & (boxes[:, 2:] <= 128)).all(dim=1)
    assert inside.any()
    assert weights[inside].max() == 0
    assert weights[(boxes[:, 2:] < 64).all(dim=1)].min() == 1


def test_three_hardest_negatives_a_positive_and_the_weight_of_the_confidences(narrow_yi2018):
    head = network(**narrow_yi2018, conf_weight=2.0).bbox_head
    # One object and five negatives, of which one is ignored; logits of (cell, background).
    logits = torch.tensor([[1.0, 0.0], [5.0, 0.0], [3.0, 0.0], [0.0, 0.0], [-4.0, 0.0], [9.0, 0.0]])
    labels = torch.tensor([0, 1, 1, 1, 1, 1])
    weights = torch.tensor([1.0, 1, 1, 1, 1, 0])
    offsets = torch.tensor([[0.5, -0.5, 2.0, 0.0]] + [[9.0] * 4] * 5)
    box_weights = torch.tensor([[1.0] * 4] + [[0.0] * 4] * 5)
    confidence, localisation = head.loss_by_feat_single(
        logits, offsets, torch.zeros(6, 4), labels, weights, torch.zeros(6, 4), box_weights, avg_factor=2
    )
    chosen = math.log1p(math.exp(-1)) + sum(math.log1p(math.exp(v)) for v in (5.0, 3.0, 0.0))
    assert confidence.item() == pytest.approx(2.0 * chosen / 2)
    assert localisation.item() == pytest.approx((0.125 + 0.125 + 1.5) / 2)


def test_only_the_surest_candidates_of_each_class_enter_suppression(narrow_yi2018):
    head = network(task=Task(classes=("a", "b")), **narrow_yi2018).bbox_head
    boxes = torch.tensor([[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(6)])
    found = InstanceData(
        bboxes=boxes, scores=torch.tensor([0.4, 0.9, 0.5, 0.8, 0.6, 0.7]), labels=torch.tensor([0, 0, 0, 1, 1, 1])
    )
    cfg = ConfigDict({**head.test_cfg, "candidates": 2})
    kept = head._bbox_post_process(found, cfg, img_meta={})
    assert kept.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.5])
    assert kept.labels.tolist() == [0, 1, 1, 0]


def test_detections_are_those_above_the_threshold_that_no_surer_one_overlaps(narrow_yi2018):
    built = network(**narrow_yi2018)
    head, sizes = built.bbox_head, [16, 8, 4, 2, 1]
    # Every confidence is background but for three cells of block 3, square boxes, unmoved.
    scores = [torch.zeros(1, 2 * n, s, s) for n, s in zip(head.num_base_priors, sizes, strict=True)]
    for level in scores:
        level[:, 1::2] = 9.0
    for column, logit in ((2, 8.9), (3, 8.5), (9, 8.2)):  # probabilities of 0.475, 0.378 and 0.31
        scores[0][0, 0, 5, column] = logit
    scores[0][0, 0, 12, 12] = 8.1  # 0.289: below the threshold
    offsets = [torch.zeros(1, 4 * n, s, s) for n, s in zip(head.num_base_priors, sizes, strict=True)]
    (found,) = head.predict_by_feat(scores, offsets, batch_img_metas=[sample([]).metainfo])
    # The boxes of columns 2 and 3 are 20.48 wide and 8 apart: they overlap by 0.44, more than 0.3.
    assert found.scores.tolist() == pytest.approx([1 / (1 + math.exp(0.1)), 1 / (1 + math.exp(0.8))])
    half = 20.48 / 2
    assert found.bboxes.tolist() == [
        pytest.approx([20 - half, 44 - half, 20 + half, 44 + half], abs=1e-3),
        pytest.approx([76 - half, 44 - half, 76 + half, 44 + half], abs=1e-3),
    ]


# -- crops ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "map_shape", "expected"),
    [
        # 512 input, stride 8: 100 / 8 = 12.5 rounds to the even 12, 108 / 8 = 13.5 to 14; the end is in it.
        ((100, 40, 108, 80), (64, 64), Window(5, 12, 10, 14)),
        ((99, 41, 131, 79), (64, 64), Window(5, 12, 10, 16)),
        # The whole image: 64 is not a cell, the last is 63.
        ((0, 0, 512, 512), (64, 64), Window(0, 0, 63, 63)),
        # At the input itself, pixels.
        ((10.4, 20.6, 30.5, 40.4), (512, 512), Window(21, 10, 40, 30)),
        # Smaller than a cell: one cell.
        ((200, 200, 203, 203), (32, 32), Window(12, 12, 13, 13)),
        ((193, 193, 195, 195), (32, 32), Window(12, 12, 12, 12)),
        # Beyond the border.
        ((-9, -9, -1, -1), (32, 32), Window(0, 0, 0, 0)),
        ((510, 510, 530, 530), (32, 32), Window(31, 31, 31, 31)),
    ],
)
def test_a_box_covers_the_cells_between_its_rounded_corners(box, map_shape, expected):
    assert window_of(box, (512, 512), map_shape) == expected


def test_width_and_height_are_normalised_each_by_its_own():
    assert window_of((128, 64, 256, 128), (256, 512), (16, 64)) == Window(4, 16, 8, 32)


def test_crops_are_those_cells():
    features = torch.arange(64 * 64.0).view(1, 64, 64)
    (crop,) = crops([features], (99, 41, 131, 79), (512, 512))
    expected = [[64.0 * row + column for column in range(12, 17)] for row in range(5, 11)]
    assert crop.tolist() == [expected]


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        # From stride 2 on: 65 x 65, 33 x 33, 17 x 17 and 9 x 9 cells.
        ((64, 64, 192, 192), [(65, 65), (33, 33), (17, 17), (9, 9)]),
        # 24 px: 13, 7, 4 and (1.5 to 3 cells, rounded 8 to 9.5 -> 10) 3 cells.
        ((128, 128, 152, 152), [(13, 13), (7, 7), (4, 4), (3, 3)]),
        # 16 px: the last has two cells of stride 16.
        ((128, 128, 144, 144), [(9, 9), (5, 5), (3, 3)]),
        # Slender: two rows at stride 4 leave out strides 4, 8 and 16, however long.
        ((64, 100, 320, 104), [(3, 129)]),
        # Smaller than three cells of block 1, which is used nevertheless.
        ((100, 100, 101, 101), [(1, 1)]),
    ],
)
def test_a_map_of_fewer_than_three_cells_is_left_out_with_all_deeper_ones(box, kept):
    maps = [torch.zeros(2, 512 // stride, 512 // stride) for stride in (2, 4, 8, 16)]
    assert [tuple(crop.shape[1:]) for crop in crops(maps, box, (512, 512))] == kept


# -- the mask head ----------------------------------------------------------------------------------------


def test_the_mask_head_adds_from_the_deepest_crop_to_the_image():
    head = Yi2018MaskHead((4, 6), patch_channels=3)
    head.init_weights()
    state = head.state_dict()
    patch, shallow, deep = torch.randn(3, 9, 11), torch.randn(4, 5, 6), torch.randn(6, 3, 3)

    def conv(name, x):
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def up(x, size):
        return functional.interpolate(x, size, mode="bilinear", align_corners=False)

    image = conv("patch.2", conv("patch.0", patch[None]).relu())
    middle = conv("join.1", (up(conv("narrow.1", deep[None]), (5, 6)) + shallow[None]).relu()).relu()
    top = conv("join.0", (up(conv("narrow.0", middle), (9, 11)) + image).relu()).relu()
    expected = conv("last.2", conv("last.0", top).relu())[0, 0]
    assert torch.allclose(head(patch, [shallow, deep]), expected, atol=1e-6)
    # Without the deepest crop, what is left begins at the shallower one.
    top = conv("join.0", (up(conv("narrow.0", shallow[None]), (9, 11)) + image).relu()).relu()
    assert torch.allclose(head(patch, [shallow]), conv("last.2", conv("last.0", top).relu())[0, 0], atol=1e-6)


def test_the_mask_head_takes_one_cell():
    head = Yi2018MaskHead((4, 6, 8, 10))
    assert head(torch.randn(3, 1, 1), [torch.randn(4, 1, 1)]).shape == (1, 1)


def test_the_mask_loss_of_an_object_is_the_mean_over_its_pixels():
    logits = torch.tensor([[0.0, 2.0], [-1.0, 3.0]])
    truth = torch.tensor([[1, 0], [0, 1]], dtype=torch.uint8)
    terms = [math.log(2), math.log1p(math.exp(2)), math.log1p(math.exp(-1)), math.log1p(math.exp(-3))]
    assert mask_loss(logits, truth).item() == pytest.approx(sum(terms) / 4)
    # A truth of another size is read at the nearest pixels: each is twice as high and wide here.
    assert mask_loss(logits.repeat_interleave(2, 0).repeat_interleave(2, 1), truth).item() == pytest.approx(
        sum(terms) / 4
    )


class Says(Yi2018MaskHead):
    """A mask head that says the same everywhere and remembers what it was given."""

    def __init__(self, logit):
        super().__init__(())
        self.logit, self.seen = torch.nn.Parameter(torch.tensor(float(logit))), []

    def forward(self, patch, levels):
        self.seen.append((patch, [tuple(level.shape) for level in levels]))
        return self.logit.expand(patch.shape[-2:])


def detections(*boxes):
    return InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))


def test_masks_are_trained_on_detections_that_overlap_an_object_by_half(narrow_yi2018):
    built = network(**narrow_yi2018)
    built.mask_head = Says(2.0)
    images = torch.randn(2, 3, 128, 128)
    maps = [torch.zeros(2, 4, 128 // stride, 128 // stride) for stride in (2, 4, 8, 16)]
    found = [
        # The object itself (41 x 41 px inclusive, of which 40 x 40 are foreground), half of it, and too little of it.
        detections((20, 20, 60, 60), (20, 20, 60, 40), (20, 20, 60, 39)),
        detections((100, 100, 120, 120)),
    ]
    samples = [sample([(20, 20, 60, 60)]), sample([(2, 2, 20, 20)])]
    loss = built.mask_losses(images, maps, found, samples)
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    share = 1600 / 1681
    whole = share * right + (1 - share) * wrong
    half = (40 * 21 * right + 21 * wrong) / (41 * 21)
    assert loss.item() == pytest.approx((whole + half) / 2, rel=1e-5)
    assert torch.equal(built.mask_head.seen[0][0], images[0, :, 20:61, 20:61])
    assert built.mask_head.seen[1][1] == [(4, 11, 21), (4, 6, 11), (4, 4, 7)]


def test_each_detection_learns_the_object_that_it_overlaps_most(narrow_yi2018):
    built = network(**narrow_yi2018)
    built.mask_head = Says(50.0)  # wrong by 50 on background, right on foreground
    maps = [torch.zeros(1, 4, 128 // stride, 128 // stride) for stride in (2, 4, 8, 16)]
    both = sample([(10, 10, 50, 50), (12, 10, 52, 50)])
    loss = built.mask_losses(torch.zeros(1, 3, 128, 128), maps, [detections((13, 10, 53, 50))], [both])
    # Columns 13 to 53: the second object lacks the last two; rows 10 to 50: it lacks the last one.
    assert loss.item() == pytest.approx(50 * (1 - 39 * 40 / 41**2), rel=1e-5)


def test_without_a_detection_the_mask_loss_is_zero_and_can_be_differentiated(narrow_yi2018):
    built = network(**narrow_yi2018)
    maps = [torch.zeros(1, c, 128 // stride, 128 // stride) for c, stride in ((8, 2), (8, 4), (16, 8), (32, 16))]
    for found, objects in ((detections(), [(2, 2, 20, 20)]), (detections((2, 2, 20, 20)), [])):
        loss = built.mask_losses(torch.zeros(1, 3, 128, 128), maps, [found], [sample(objects)])
        loss.backward()
        assert loss.item() == 0
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in built.mask_head.parameters())


def test_more_detections_than_allowed_are_chosen_at_random_from_the_seed(narrow_yi2018):
    built = network(**narrow_yi2018, mask_objects=3)
    objects = torch.tensor([[10.0 * i, 0, 10.0 * i + 9, 9] for i in range(10)])
    every = [tuple(box) for box, _ in network(**narrow_yi2018)._positive(objects, objects)]
    assert len(every) == 10
    torch.manual_seed(5)
    some = built._positive(objects, objects)
    assert len(some) == 3
    assert all(objects[index].tolist() == box for box, index in some)
    torch.manual_seed(5)
    assert built._positive(objects, objects) == some
    assert built._positive(objects, objects) != some


# -- what is trained --------------------------------------------------------------------------------------


def images_and_sample(shape=(128, 128)):
    return torch.randn(1, 3, *shape), [sample([(20, 20, 60, 60), (80, 64, 110, 100)], shape)]


def gradients(built):
    return {name for name, p in built.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


@pytest.mark.parametrize(("part", "trained"), [("all", {True, False}), ("detector", {False}), ("mask", {True})])
def test_each_part_has_its_losses_and_only_it_is_trained(part, trained, narrow_yi2018, every_box):
    built = network(**narrow_yi2018, norm="batch", **every_box)
    built.train_part(part)
    built.train()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    losses = built.loss(*images_and_sample())
    assert (
        set(losses)
        == {
            "all": {"loss_cls", "loss_bbox", "loss_mask"},
            "detector": {"loss_cls", "loss_bbox"},
            "mask": {"loss_mask"},
        }[part]
    )
    sum(sum(v) if isinstance(v, (list, tuple)) else v for v in losses.values()).backward()
    assert {name.startswith("mask_head.") for name in gradients(built)} == trained
    still = {name.split(".")[0] for name in before if torch.equal(before[name], built.state_dict()[name])}
    # Batch statistics move with the detector, and stand still while only the mask head is trained.
    moved = {name for name in before if not torch.equal(before[name], built.state_dict()[name])}
    assert bool(moved) == (part != "mask")
    assert "mask_head" in still
    assert built.backbone.training == built.neck.training == (part != "mask")
    assert built.mask_head.training


def test_end_to_end_the_masks_teach_the_backbone(narrow_yi2018, every_box):
    built = network(**narrow_yi2018, **every_box)
    built.train()
    built.loss(*images_and_sample())["loss_mask"].backward()
    assert {"backbone.conv1.weight", "neck.fuse.conv.weight"} <= gradients(built)
    assert not any(name.startswith("bbox_head") for name in gradients(built))


def test_an_image_without_objects_has_no_loss(narrow_yi2018):
    built = network(**narrow_yi2018)
    built.train()
    losses = built.loss(torch.randn(1, 3, 128, 128), [sample([])])
    total = sum(sum(v) if isinstance(v, (list, tuple)) else v for v in losses.values())
    total.sum().backward()
    assert total.item() == 0  # three negatives for each of no positives


# -- prediction -------------------------------------------------------------------------------------------


def test_masks_come_back_in_pixels_of_the_original_image(narrow_yi2018):
    built = network(**narrow_yi2018)
    built.mask_head = Says(3.0)
    built.bbox_head.predict_by_feat = lambda *_answers, batch_img_metas: [
        InstanceData(
            bboxes=torch.tensor([[32.0, 64.0, 63.0, 127.0], [0.0, 0.0, 128.0, 128.0]]),
            scores=torch.tensor([0.9, 0.8]),
            labels=torch.tensor([0, 0]),
        )
    ]
    # 160 wide and 256 high, seen at 128 x 128: 1.25 and 2 pixels a pixel of the input.
    (one,) = built.predict(torch.zeros(1, 3, 128, 128), [sample([], ori_shape=(256, 160))])
    found = one.pred_instances
    masks = [rle.decode(counts, 256, 160) for counts in found.rles]
    expected = np.zeros((256, 160), bool)
    expected[128:256, 40:80] = True  # rows 64 to 127, columns 32 to 63, inclusive
    assert np.array_equal(masks[0], expected)
    assert masks[1].all()
    assert found.bboxes[0].tolist() == pytest.approx([40, 128, 78.75, 254])
    (one,) = built.predict(torch.zeros(1, 3, 128, 128), [sample([], ori_shape=(256, 160))], rescale=False)
    assert rle.areas(one.pred_instances.rles, 128, 128).tolist() == [64 * 32, 128 * 128]


def test_a_mask_is_what_is_at_least_as_likely_as_not(narrow_yi2018):
    for logit, area in ((0.0, 16 * 16), (-0.001, 0)):
        built = network(**narrow_yi2018)
        built.mask_head = Says(logit)
        built.bbox_head.predict_by_feat = lambda *_answers, batch_img_metas: [
            InstanceData(bboxes=torch.tensor([[8.0, 8, 23, 23]]), scores=torch.tensor([1.0]), labels=torch.tensor([0]))
        ]
        (one,) = built.predict(torch.zeros(1, 3, 128, 128), [sample([])])
        assert rle.areas(one.pred_instances.rles, 128, 128).tolist() == [area]


# -- size -------------------------------------------------------------------------------------------------


def conv(k, wide, narrow):
    return k * k * wide * narrow + narrow


def test_parameters_are_those_of_the_published_layers(published):
    # torchvision's ResNet-101 has 44,549,160; its last stage 14,964,736 and its classifier 2,049,000 of them.
    backbone = 44_549_160 - 14_964_736 - 2_049_000
    reduce = conv(1, 512, 256) + conv(1, 1024, 256) + conv(1, 512, 256)
    extra = conv(1, 1024, 256) + conv(3, 256, 512)
    extra += conv(1, 512, 128) + conv(3, 128, 256) + conv(1, 256, 128) + conv(3, 128, 256)
    neck = reduce + 2 * 768 + conv(1, 768, 512) + extra
    levels = ((512, 4), (1024, 6), (512, 6), (256, 6), (256, 6))
    head = sum(conv(3, channels, boxes * (2 + 4)) for channels, boxes in levels)
    up = ((1024, 512), (512, 256), (256, 64), (64, 64))
    mask = sum(conv(3, deep, shallow) + conv(3, shallow, shallow) for deep, shallow in up)
    mask += conv(3, 3, 64) + conv(3, 64, 64) + conv(3, 64, 64) + conv(3, 64, 1)
    counted = {name: sum(p.numel() for p in part.parameters()) for name, part in published.named_children()}
    assert counted["backbone"] == backbone
    assert counted["neck"] == neck
    assert counted["bbox_head"] == head
    assert counted["mask_head"] == mask
    assert sum(counted.values()) == backbone + neck + head + mask == 40_544_937


def test_vgg_16_has_the_parameters_of_ssds():
    # 14,714,688 in VGG-16's convolutions; fc6 and fc7 as convolutions.
    counted = sum(p.numel() for p in Yi2018VGG16().parameters())
    assert counted == 14_714_688 + conv(3, 512, 1024) + conv(1, 1024, 1024)


def test_operations_are_those_of_the_published_layers(published):
    """Multiplications of the detector at 512 x 512, from the layers' sizes; counted at 128 x 128, a sixteenth."""
    from mmengine.analysis import get_model_complexity_info

    def stage(blocks, wide, middle, cells_before, cells):
        first = cells_before * wide * middle + cells * (9 * middle**2 + 4 * middle**2 + wide * 4 * middle)
        return first + (blocks - 1) * cells * (4 * middle**2 + 9 * middle**2 + 4 * middle**2)

    at = {stride: (512 // stride) ** 2 for stride in (2, 4, 8, 16, 32, 64, 128)}
    expected = at[2] * 49 * 3 * 64
    expected += stage(3, 64, 64, at[4], at[4]) + stage(4, 256, 128, at[4], at[8]) + stage(23, 512, 256, at[8], at[16])
    expected += 256 * (512 * at[8] + 1024 * at[16] + 512 * at[32]) + 768 * 512 * at[8]
    expected += 1024 * 256 * at[16] + 9 * 256 * 512 * at[32]
    expected += 512 * 128 * at[32] + 9 * 128 * 256 * at[64] + 256 * 128 * at[64] + 9 * 128 * 256 * at[128]
    levels = ((512, 4, 8), (1024, 6, 16), (512, 6, 32), (256, 6, 64), (256, 6, 128))
    expected += sum(9 * channels * boxes * 6 * at[stride] for channels, boxes, stride in levels)
    published.eval()
    counted = get_model_complexity_info(
        published, inputs=(torch.zeros(1, 3, 128, 128),), show_table=False, show_arch=False
    )["flops"]
    assert 16 * counted == pytest.approx(expected, rel=0.02)
    assert expected == pytest.approx(41e9, rel=0.05)
