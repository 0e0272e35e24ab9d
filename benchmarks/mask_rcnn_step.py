"""How long a training step of Mask R-CNN takes with our torch operators and with mmcv's compiled ones, side by side.

    python benchmarks/mask_rcnn_step.py [--size 512] [--objects 40] [--steps 10] [--threads 2] [--device cpu] [--json]

Two processes, one for each provider, take turns step by step, so that whatever else the machine does slows both alike.
They build the same network (mmdet's ResNet-50 with feature pyramid, random weights) and see the same image. Needs mmcv
with its compiled operators (``python -m bench.ops.build``); says so where it has none.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench import ops

PROVIDERS = ("mmcv", "torch")


def build_step(size: int, objects: int, device: str):
    """A function that makes one training step and returns its loss."""
    import numpy as np
    import torch

    mmdet = ops.import_mmdet()
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.config import Config
    from mmengine.structures import InstanceData

    config = Config.fromfile(Path(mmdet.__path__[0]) / ".mim/configs/_base_/models/mask-rcnn_r50_fpn.py")
    config.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(config.model).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    radii = random.uniform(8, 30, (objects, 2))
    centres = random.uniform(31, size - 31, (objects, 2))
    masks = [
        ((rows - y) / r) ** 2 + ((columns - x) / q) ** 2 <= 1 for (y, x), (r, q) in zip(centres, radii, strict=True)
    ]
    corners = np.concatenate([centres - radii, centres + radii], axis=1)[:, [1, 0, 3, 2]]
    truth = InstanceData(
        bboxes=torch.tensor(corners, dtype=torch.float32),
        labels=torch.zeros(objects, dtype=torch.long),
        masks=BitmapMasks(np.array(masks, dtype=np.uint8), size, size),
    )
    sample = DetDataSample(metainfo={"img_shape": (size, size), "ori_shape": (size, size), "scale_factor": (1.0, 1.0)})
    sample.gt_instances = truth
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    image = torch.from_numpy(random.integers(0, 256, (3, size, size), dtype=np.uint8))

    def step() -> float:
        data = model.data_preprocessor({"inputs": [image], "data_samples": [sample.clone()]}, True)
        loss, _ = model.parse_losses(model(**data, mode="loss"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def work(size: int, objects: int, threads: int, device: str) -> None:
    """Make a step for each line that comes in, and answer with its times in seconds and its loss."""
    import torch

    torch.set_num_threads(threads)
    step = build_step(size, objects, device)
    print(json.dumps({"provider": ops.install(), "torch": torch.__version__}), flush=True)
    for _ in sys.stdin:
        wall, busy = time.perf_counter(), time.process_time()
        loss = step()
        times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - busy, "loss": loss}
        print(json.dumps(times), flush=True)


def measure(arguments: argparse.Namespace) -> dict:
    """Both providers, in turns; the first steps of each are not counted."""
    workers = {}
    for provider in PROVIDERS:
        options = [f"--{name}={getattr(arguments, name)}" for name in ("size", "objects", "threads", "device")]
        workers[provider] = subprocess.Popen(
            [sys.executable, __file__, "--work", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "BENCH_OPS": provider},
        )

    def answer(provider: str) -> dict:
        line = workers[provider].stdout.readline()
        if not line:
            raise SystemExit(f"the process with the operators of {provider} ended early")
        return json.loads(line)

    def ask(provider: str) -> dict:
        workers[provider].stdin.write("step\n")
        workers[provider].stdin.flush()
        return answer(provider)

    try:
        started = {provider: answer(provider) for provider in PROVIDERS}
        samples = {provider: [] for provider in PROVIDERS}
        for i in range(arguments.warmup + arguments.steps):
            for provider in PROVIDERS if i % 2 else PROVIDERS[::-1]:
                sample = ask(provider)
                if i >= arguments.warmup:
                    samples[provider].append(sample)
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()

    def median(provider: str, key: str) -> float:
        return statistics.median(s[key] for s in samples[provider])

    ratios = {key: median("torch", key) / median("mmcv", key) for key in ("wall", "cpu")}
    return {
        "size": arguments.size,
        "objects": arguments.objects,
        "threads": arguments.threads,
        "device": arguments.device,
        "torch": started["torch"]["torch"],
        "seconds": {p: {key: median(p, key) for key in ("wall", "cpu")} for p in PROVIDERS},
        "ratio": ratios,
        "samples": samples,
    }


def table(result: dict) -> str:
    lines = [
        f"Mask R-CNN R50-FPN, one image of {result['size']} x {result['size']} pixels, {result['objects']} objects, "
        f"{result['device']}, {result['threads']} threads, torch {result['torch']}",
        "operators   median step (s)   processor time (s)",
    ]
    for provider, seconds in result["seconds"].items():
        lines.append(f"{provider:<11} {seconds['wall']:>15.2f}   {seconds['cpu']:>18.2f}")
    lines.append(f"{'torch/mmcv':<11} {result['ratio']['wall']:>15.2f}   {result['ratio']['cpu']:>18.2f}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="side of the image in pixels")
    parser.add_argument("--objects", type=int, default=40)
    parser.add_argument("--steps", type=int, default=10, help="counted steps of each provider")
    parser.add_argument("--warmup", type=int, default=2, help="steps before those")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="print everything, every sample too, as JSON")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.size, arguments.objects, arguments.threads, arguments.device)
        return 0
    compiled = next((c for c in ops.describe().candidates if c.provider == "mmcv"), None)
    if compiled is None or compiled.fault:
        fault = compiled.fault if compiled else "torch or mmcv is not installed"
        print(f"nothing to compare with: {fault} (python -m bench.ops.build)", file=sys.stderr)
        return 6
    result = measure(arguments)
    print(json.dumps(result, indent=2) if arguments.json else table(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
