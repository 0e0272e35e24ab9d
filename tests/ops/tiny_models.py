"""Trains one step of small mmdet models and predicts with them; prints what came of each, a JSON line a model.

    BENCH_OPS=torch python tests/ops/tiny_models.py NAME...

A program of its own because a process can have the operators of one provider only.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from bench import ops

mmdet = ops.import_mmdet()

from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402

CONFIGS = Path(mmdet.__path__[0]) / ".mim/configs"
SIZE = 96


def shrink(model: Any, dcn: str | None = None) -> Any:
    """A ResNet-50 with 8 instead of 64 channels, a pyramid of 32, and few samples."""
    model.backbone.update(init_cfg=None, base_channels=8, frozen_stages=-1, norm_eval=False)
    if dcn:
        # The first stage with deformable convolutions has a stride: fallback_on_stride leaves it plain.
        layout = {"type": dcn, "deform_groups": 1, "fallback_on_stride": False}
        model.backbone.update(dcn=layout, stage_with_dcn=(False, True, True, True))
    model.neck.update(in_channels=[32, 64, 128, 256], out_channels=32)
    model.rpn_head.update(in_channels=32, feat_channels=32)
    model.train_cfg.rpn.sampler.num = 64
    roi_head = model.roi_head
    for part in (roi_head.bbox_roi_extractor, roi_head.mask_roi_extractor):
        part.out_channels = 32
    several = isinstance(roi_head.bbox_head, list)
    for head in roi_head.bbox_head if several else [roi_head.bbox_head]:
        head.update(in_channels=32, fc_out_channels=64, num_classes=1)
    roi_head.mask_head.update(in_channels=32, conv_out_channels=32, num_classes=1)
    for stage in model.train_cfg.rcnn if several else [model.train_cfg.rcnn]:
        stage.sampler.num = 32
    model.test_cfg.rcnn.score_thr = 0.0
    return model


def mask_rcnn() -> Any:
    return shrink(Config.fromfile(CONFIGS / "_base_/models/mask-rcnn_r50_fpn.py").model)


def cascade_dcn(dcn: str) -> Any:
    return shrink(Config.fromfile(CONFIGS / "_base_/models/cascade-mask-rcnn_r50_fpn.py").model, dcn)


def soft_nms() -> Any:
    model = mask_rcnn()
    model.test_cfg.rcnn.nms = {"type": "soft_nms", "iou_threshold": 0.5}
    return model


def stock(path: str) -> Any:
    model = Config.fromfile(CONFIGS / path).model
    model.backbone.init_cfg = None
    return model


BUILDERS = {
    "mask_rcnn": mask_rcnn,
    "mask_rcnn_soft_nms": soft_nms,
    "cascade_dcn_v1": lambda: cascade_dcn("DCN"),
    "cascade_dcn_v2": lambda: cascade_dcn("DCNv2"),
    "solov2": lambda: stock("solov2/solov2-light_r18_fpn_ms-3x_coco.py"),
    "rtmdet_ins": lambda: stock("rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py"),
    "mask2former": lambda: stock("mask2former/mask2former_r50_8xb2-lsj-50e_coco.py"),
}


def sample() -> DetDataSample:
    """Six discs."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    centres, radii = random.uniform(16, SIZE - 16, (6, 2)), random.uniform(6, 14, 6)
    masks = np.array(
        [(rows - y) ** 2 + (columns - x) ** 2 <= r**2 for (y, x), r in zip(centres, radii, strict=True)], np.uint8
    )
    y0, x0 = (centres - radii[:, None]).T
    y1, x1 = (centres + radii[:, None]).T
    shape = (SIZE, SIZE)
    result = DetDataSample(
        metainfo={"img_shape": shape, "ori_shape": shape, "batch_input_shape": shape, "scale_factor": (1.0, 1.0)}
    )
    result.gt_instances = InstanceData(
        bboxes=torch.tensor(np.stack([x0, y0, x1, y1], axis=1), dtype=torch.float32),
        labels=torch.zeros(6, dtype=torch.long),
        masks=BitmapMasks(masks, SIZE, SIZE),
    )
    result.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    return result


def run(name: str) -> dict[str, Any]:
    torch.manual_seed(0)
    model = MODELS.build(BUILDERS[name]()).train()
    image = torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8)
    # Two images: batch statistics of a single value do not exist.
    batch = {"inputs": [image, image.flip(-1)], "data_samples": [sample(), sample()]}
    loss, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode="loss"))
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    optimizer.step()
    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor({"inputs": [image], "data_samples": [sample()]}, False)
        (result,) = model(**data, mode="predict")
    found = result.pred_instances
    deformable = [n for n in gradients if "conv_offset" in n or "sampling_offsets" in n]
    return {
        "model": name,
        "provider": ops.install(),
        "loss": loss.item(),
        "finite": all(bool(g.isfinite().all()) for g in gradients.values()),
        "digest": hashlib.sha256(b"".join(g.numpy().tobytes() for g in gradients.values())).hexdigest(),
        "trained": sum(bool(g.any()) for g in gradients.values()),
        "deformable": len(deformable),
        "deformable_trained": sum(bool(gradients[n].any()) for n in deformable),
        "predictions": len(found),
        "mask_shape": list(found.masks.shape[1:]),
    }


if __name__ == "__main__":
    for name in sys.argv[1:] or BUILDERS:
        print(json.dumps(run(name)), flush=True)
