"""Multiply-adds of the detection networks, against the stock builds and published figures, or the reason there is none.

Counted by torch (convolutions and matrix products), as ``python -m benchmarks.complexity`` does, without a number being
computed. One image: backbone, pyramid and dense heads at the size that is named, box heads on 1000 RoIs, mask heads on
100, which is how the published figures of two-stage methods are counted.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from bench.api import ObjectStatistics, Task  # noqa: E402
from bench.ops import import_mmdet  # noqa: E402
from bench.registry import find_method, registry  # noqa: E402
from methods._mmdet import MMDetMethod, stock  # noqa: E402

PHOTOGRAPHS = Task(
    tuple(f"class {n}" for n in range(80)), objects=ObjectStatistics(64, 100, 300, 2.0, 7, 60), max_detections=100
)
ROIS, MASKS = 1000, 100

PUBLISHED = {
    "mask_rcnn": (260, (800, 1280), "tables of later backbones, such as Twins (Chu et al. 2021): R-50, 260 G"),
    "mask_rcnn-swin": (267, (800, 1280), "model zoo of Swin (Liu et al. 2021) for detection: Swin-T, 267 G"),
    "rtmdet_ins": (54.13, (640, 640), "MMDetection's model zoo: RTMDet-Ins-m, 54.13 G"),
}
"""Billion multiply-adds, for an input of (height, width) pixels, and where they are printed."""

STOCK = {
    **dict.fromkeys(("mask_rcnn", "mask_rcnn-swin", "cascade_mask_rcnn", "solov2"), (800, 1280)),
    **dict.fromkeys(("mask_rcnn-bce", "mask_rcnn-focal", "mask_rcnn-shape"), (800, 1280)),
    "rtmdet_ins": (640, 640),
    "mask2former": (128, 160),
}
"""Methods that are a stock build, and the size at which both are counted; Mask2Former's code needs numbers."""

ELSEWHERE = {
    "cascade_mask_rcnn-x152": "below",
    "deepcis-cell": "below",
    "deepcis-nucleus": "the network of deepcis-cell with 50 anchors a place instead of 45",
    "deepcis-both": "the network of deepcis-cell with 60 classes",
    "mnc": "below",
    "mnc-resnet101": "below",
    "fcis": "in test_fcis_network.py",
    "fcis-voc": "the network of fcis",
    "yi2018": "in test_yi2018_network.py",
    "yi2018-end-to-end": "the network of yi2018",
    "yi2018-vgg16": "neither the paper nor its authors' code states a figure, and this variant is our extension of it",
}
"""Where the others are counted, or why they are not."""


@pytest.fixture(autouse=True, scope="module")
def ready():
    import_mmdet()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(name: str, **settings):
    entry = find_method(name)
    method = entry.method(PHOTOGRAPHS, entry.method.make_params(entry.variant, settings))
    method._import_modules()
    return build(method.config("checkpoint"), meta=name != "mask2former")


def build(config, meta: bool = True):
    """A network without weights, or with fresh ones."""
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    network = MODELS.build(ConfigDict(plain(copy.deepcopy(config)))).eval()
    return network.to("meta") if meta else network


def plain(part):
    """A config that downloads nothing and trains in one process."""
    if isinstance(part, dict):
        part.update({key: plain(value) for key, value in part.items()})
        if part.get("type") == "SyncBN":
            part["type"] = "BN"
        if "init_cfg" in part:
            part["init_cfg"] = None
    elif isinstance(part, (list, tuple)):
        part = type(part)(plain(one) for one in part)
    return part


def counted(module, *inputs) -> float:
    """Billion multiply-adds of a module."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops() / 2e9


def heads(part) -> list:
    return list(part) if isinstance(part, torch.nn.ModuleList) else [part]


def work(network, height: int, width: int) -> float:
    """Billion multiply-adds of one image, see above."""
    from mmdet.structures import DetDataSample

    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        maps = network.extract_feat(torch.zeros(1, 3, height, width, device=device))
        if getattr(network, "rpn_head", None) is not None:
            network.rpn_head(maps)
            channels = network.neck.out_channels
            for head in heads(network.roi_head.bbox_head):
                head(torch.zeros(ROIS, channels, 7, 7, device=device))
            for head in heads(network.roi_head.mask_head):
                head(torch.zeros(MASKS, channels, 14, 14, device=device))
        elif hasattr(network, "panoptic_head"):
            shape = {"img_shape": (height, width), "batch_input_shape": (height, width)}
            network.panoptic_head(maps, [DetDataSample(metainfo=shape)])
        else:
            (network.bbox_head if network.bbox_head is not None else network.mask_head)(maps)
    return counter.get_total_flops() / 2e9


def test_every_detection_method_is_counted_or_says_why_not():
    methods = registry().methods
    wanted = {name for name, entry in methods.items() if issubclass(entry.method, MMDetMethod)}
    assert wanted == {*STOCK, *ELSEWHERE}


@pytest.mark.parametrize("name", sorted(STOCK))
def test_a_network_does_the_work_of_the_stock_build(name):
    config = stock(find_method(name).method.coco_config).model.to_dict()
    reference = work(build(config, meta=name != "mask2former"), *STOCK[name])
    assert work(made(name), *STOCK[name]) == pytest.approx(reference, rel=1e-9)
    assert reference > 1


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_network_does_the_work_that_is_published(name):
    """Mask2Former's 226 G are a mean over images of sizes that are not named; SOLOv2's paper has none, as Cascade's."""
    billions, shape, _ = PUBLISHED[name]
    assert work(made(name), *shape) == pytest.approx(billions, rel=0.02)


@pytest.mark.slow
def test_x152_does_the_work_of_mmdetections_x101_deepened():
    """The backbone alone is held against the published X101 in test_cascade_mask_rcnn.py."""
    config = stock("cascade_rcnn/cascade-mask-rcnn_x101-32x8d_fpn_ms-3x_coco").model
    config.backbone.depth = 152
    assert work(made("cascade_mask_rcnn-x152"), 800, 1280) == pytest.approx(
        work(build(config.to_dict()), 800, 1280), rel=1e-9
    )


@pytest.mark.slow
def test_deepcis_does_the_work_of_mmdetections_s101_deepened_with_one_mask_head_and_its_anchors():
    """The backbone alone is held against the published ResNeSt-200 in test_deepcis.py. The paper states no figure."""
    from methods.deepcis import STOCK as RESNEST

    config = stock(RESNEST).model
    config.backbone.depth = 200
    reference = build(config.to_dict())
    one_mask = counted(reference.roi_head.mask_head[0], torch.zeros(MASKS, 256, 14, 14, device="meta"))
    places = sum(-(-800 // stride) * -(-1280 // stride) for stride in (4, 8, 16, 32, 64))
    anchors = (45 - 3) * 5 * 256 * places / 1e9
    expected = work(reference, 800, 1280) - 2 * one_mask + anchors
    assert work(made("deepcis-cell", deformable="none"), 800, 1280) == pytest.approx(expected, rel=1e-6)


def test_deformable_layers_add_their_offsets():
    """18 offsets a place from 3 x 3 convolutions, in all blocks of the last three stages: 24, 36 and 3."""
    backbone = made("deepcis-cell").backbone
    added = sum(p.numel() for name, p in backbone.named_parameters() if name.endswith("conv_offset.weight"))
    assert added == sum(blocks * 18 * 9 * width for blocks, width in ((24, 128), (36, 256), (3, 512)))


# -- MNC, by its layers ---------------------------------------------------------------------------------


def mnc_work(name: str) -> tuple[float, float, float]:
    """Billion multiply-adds of the backbone, of the proposals, and of one round on 300 RoIs, at 600 x 1000 pixels."""
    network = made(name, fit_to_task=False)
    image = torch.zeros(1, 3, 600, 1000, device="meta")
    maps = network.extract_feat(image)[0]
    boxes = torch.zeros(300, 4, device="meta")
    return (
        counted(network.extract_feat, image),
        counted(network.rpn_head, (maps,)),
        counted(network.roi_head._answers, maps[0], boxes),
    )


def fully_connected(*widths: int) -> int:
    return sum(before * after for before, after in pairwise(widths))


def test_mnc_with_vgg16_does_the_work_of_its_layers():
    """Dai et al. 2016, section 3, with the code's numbers. Neither states a figure: the sum over the layers is it."""
    backbone, before = 0, 3
    blocks = zip((64, 128, 256, 512, 512), (2, 2, 3, 3, 3), strict=True)
    for halvings, (width, layers) in enumerate(blocks):  # max-pooling drops what does not fill a pair
        for _ in range(layers):
            backbone += 9 * before * width * (600 >> halvings) * (1000 >> halvings)
            before = width
    places = 37 * 62
    rpn = places * (9 * 512 * 512 + 512 * (18 + 36))
    masks = fully_connected(14 * 14 * 512, 256, 21 * 21)
    trunks = 2 * fully_connected(7 * 7 * 512, 4096, 4096)
    answers = 8192 * (81 + 81 + 4 * 81)
    expected = [backbone / 1e9, rpn / 1e9, 300 * (masks + trunks + answers) / 1e9]
    assert list(mnc_work("mnc")) == pytest.approx(expected, rel=0.02)


def test_mnc_with_resnet101_does_the_work_of_its_layers():
    """conv1 to conv4 on the image, conv5 twice on each RoI of 14 x 14, the second time through its mask."""
    backbone, place = 3 * 64 * 49 * 300 * 500, (150, 250)
    before = 64
    for stage, count in enumerate((3, 4, 23)):
        inner, after = 64 * 2**stage, 256 * 2**stage
        for block in range(count):
            entered = place[0] * place[1]
            if block == 0 and stage:
                place = (-(-place[0] // 2), -(-place[1] // 2))
            here = place[0] * place[1]
            backbone += before * inner * entered + (9 * inner * inner + inner * after) * here
            backbone += before * after * here if block == 0 else 0
            before = after
    here = place[0] * place[1]
    rpn = here * (9 * 1024 * 512 + 512 * (18 + 36))
    conv5 = 1024 * 512 * 196 + (9 * 512 * 512 + 512 * 2048 + 1024 * 2048) * 49
    conv5 += 2 * (2 * 512 * 2048 + 9 * 512 * 512) * 49
    masks = fully_connected(14 * 14 * 1024, 256, 21 * 21)
    expected = [backbone / 1e9, rpn / 1e9, 300 * (masks + 2 * conv5 + 4096 * (81 + 81 + 4 * 81)) / 1e9]
    assert list(mnc_work("mnc-resnet101")) == pytest.approx(expected, rel=0.02)
