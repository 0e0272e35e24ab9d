"""What the harness's predict loop costs over mmdet's bare one, on the same network and images, pair by pair.

    python -m benchmarks.predict_loop [--size 512] [--images 4] [--rounds 10] [--objects 60] [--threads 1] [--json]

The bare loop is what mmdet's own test loop does with an image that is in memory: its pipeline, ``model.test_step``, and
the masks encoded as COCO's evaluation takes them. The harness's loop predicts, times by phase, checks the prediction
and writes the image's lines into the run folder. Both have the same Mask R-CNN with the same random weights and caps,
and take turns image by image, in random order, so that whatever else the machine does slows both alike.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 0.03
"""The loop may cost so much more than the bare one."""
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
"""Both are read; the second is not shaken by what else a busy machine does."""


def networks(size: int, objects: int):
    """The method, and its network as mmdet built it: nothing of the harness's in it."""
    import torch

    from bench.api import ObjectStatistics, Task
    from bench.ops import import_mmdet
    from methods.mask_rcnn import MaskRCNN

    import_mmdet()
    task = Task(
        objects=ObjectStatistics(16, 24, 40, 1.5, objects, 2 * objects),
        image_shape=(size, size),
        max_detections=objects,  # random weights find something everywhere: so many masks are pasted and encoded
    )
    method = MaskRCNN(task, MaskRCNN.make_params(overrides={"image_scale": (size, size)}))
    method.load_fresh(0)
    bare = method._build("random")
    bare.load_state_dict(copy.deepcopy(method._network.state_dict()))
    return method, bare.eval(), torch


def bare_step(network, image, size: int, torch):
    """One image through mmdet's pipeline, network and encoding."""
    from mmdet.structures.mask import encode_mask_results
    from mmengine.dataset import Compose

    pipeline = Compose([{"type": "Resize", "scale": (size, size), "keep_ratio": True}, {"type": "PackDetInputs"}])

    def step() -> int:
        results = {"img": image, "img_shape": image.shape[:2], "ori_shape": image.shape[:2]}
        packed = pipeline(results)
        with torch.no_grad():
            (found,) = network.test_step({"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]})
        return len(encode_mask_results(found.pred_instances.masks.detach().cpu().numpy()))

    return step


def harness_step(method, sample, folder):
    """One image through what ``bench run`` does with it."""
    from bench.engine import folder as files
    from bench.engine import timing
    from bench.engine.execution import check_prediction

    journal, times = folder.predictions(), folder.timings()
    clock = timing.PhaseClock()

    def step() -> int:
        method.set_clock(clock)
        with clock.whole() as milliseconds:
            found = method.predict(sample.image)
        method.set_clock(None)
        check_prediction(method.name, method, sample, found)
        times.append({"id": sample.id, "round": 0, "ms": milliseconds})
        journal.append(files.to_record(sample.id, found))
        return len(found)

    return step


def measure(size: int, images: int, rounds: int, objects: int) -> dict:
    """Seconds of both loops on every image in every round."""
    import numpy as np

    from bench.api import Sample
    from bench.engine.folder import RunFolder

    method, network, torch = networks(size, objects)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        pairs = []
        for number in range(images):
            image = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
            sample = Sample(f"image{number}", image, None)
            pairs.append(
                {"mmdet": bare_step(network, image, size, torch), "bench": harness_step(method, sample, folder)}
            )
        found = {name: step() for name, step in pairs[0].items()}
        samples = {clock: {"mmdet": [], "bench": []} for clock in CLOCKS}
        for _ in range(rounds):
            for number in rng.permutation(images):
                for name in rng.permutation(["mmdet", "bench"]):
                    begun = {clock: read() for clock, read in CLOCKS.items()}
                    pairs[number][name]()
                    for clock, read in CLOCKS.items():
                        samples[clock][name].append(read() - begun[clock])
    return {
        "size": size,
        "images": images,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "masks": found,
        **{clock: summary(seconds) for clock, seconds in samples.items()},
    }


def summary(seconds: dict) -> dict:
    """Medians, and the median of the paired ratios with its 95 % interval by order statistics."""
    ratios = sorted(b / m for b, m in zip(seconds["bench"], seconds["mmdet"], strict=True))
    n = len(ratios)
    reach = round(1.96 * n**0.5 / 2)
    return {
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratio": statistics.median(ratios),
        "interval": [ratios[max(n // 2 - reach, 0)], ratios[min(n // 2 + reach, n - 1)]],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="side of the images in pixels")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--objects", type=int, default=60, help="masks an image")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    result = measure(arguments.size, arguments.images, arguments.rounds, arguments.objects)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print(
            f"Mask R-CNN R50-FPN, {result['size']} x {result['size']} pixels, {result['masks']['bench']} masks, "
            f"{result['threads']} threads, {result['images']} images x {result['rounds']} rounds"
        )
        for clock in CLOCKS:
            of = result[clock]
            print(
                f"{clock:<9} mmdet {of['seconds']['mmdet']:.3f} s an image, bench {of['seconds']['bench']:.3f} s; "
                f"bench/mmdet {of['ratio']:.3f} (95 % interval {of['interval'][0]:.3f} to {of['interval'][1]:.3f})"
            )
    if result["wall"]["interval"][0] > 1 + LIMIT:
        print(f"the harness's loop costs more than {LIMIT:.0%} over mmdet's", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
