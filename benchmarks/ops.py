"""How long each of our torch operators takes, beside mmcv's compiled one.

    python benchmarks/ops.py [--rounds 5] [--threads 1] [--json]

Times are processor time in milliseconds, the median of the rounds, which the two take in turns; on a machine that is
busy with other work they are steadier than wall time. Where mmcv has no compiled operators its column stays empty.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.ops import provider

Find = Callable[[str], Callable[..., Any]]
Case = tuple[str, Callable[[Find], Any]]


def boxes(torch, n: int, extent: float, smallest: float, largest: float):
    corner = torch.rand(n, 2) * (extent - largest)
    return torch.cat([corner, corner + smallest + torch.rand(n, 2) * (largest - smallest)], dim=1)


def suppression_cases(torch) -> Iterator[Case]:
    for n in (1000, 8000):
        box, score = boxes(torch, n, 512, 5, 45), torch.rand(n)
        yield (
            f"nms, {n} boxes",
            lambda find, box=box, score=score: find("nms")(box, score, iou_threshold=0.7, offset=0),
        )
    box, score = boxes(torch, 1000, 512, 5, 45), torch.rand(1000)
    yield (
        "soft-NMS, 1000 boxes",
        lambda find: find("softnms")(
            box, score, torch.empty(1000, 5), iou_threshold=0.3, sigma=0.5, min_score=0.05, method=1, offset=0
        ),
    )


def roi_align_cases(torch) -> Iterator[Case]:
    def case(features, rois, bins: int, scale: float):
        settings = {"aligned_height": bins, "aligned_width": bins, "spatial_scale": scale}
        settings |= {"sampling_ratio": 0, "pool_mode": 1, "aligned": True}
        output = features.new_empty(len(rois), features.shape[1], bins, bins)
        gradient, unused = torch.randn_like(output), features.new_zeros(0)
        return (
            lambda find: find("roi_align_forward")(features, rois, output, unused, unused, **settings),
            lambda find: find("roi_align_backward")(
                gradient, rois, unused, unused, torch.zeros_like(features), **settings
            ),
        )

    features = torch.randn(1, 256, 128, 128)
    for bins, n, largest in ((7, 512, 60), (14, 128, 60), (7, 64, 500)):
        rois = torch.cat([torch.zeros(n, 1), boxes(torch, n, 512, 8, largest)], dim=1)
        forward, backward = case(features, rois, bins, 0.25)
        yield f"RoIAlign {bins}x{bins}, {n} RoIs up to {largest} px", forward
        yield "  its gradient", backward
    masks = (torch.rand(40, 1, 512, 512) > 0.5).float()
    rois = torch.cat([torch.randint(0, 40, (128, 1)).float(), boxes(torch, 128, 512, 8, 60)], dim=1)
    yield "mask targets 28x28, 128 RoIs", case(masks, rois, 28, 1.0)[0]


def deform_conv_cases(torch) -> Iterator[Case]:
    data, weight = torch.randn(1, 128, 64, 64), torch.randn(128, 128, 3, 3)
    offset, mask = torch.randn(1, 18, 64, 64), torch.rand(1, 9, 64, 64)
    bias, unused = torch.zeros(128), torch.zeros(0)
    settings = {"kernel_h": 3, "kernel_w": 3, "stride_h": 1, "stride_w": 1, "pad_h": 1, "pad_w": 1}
    settings |= {"dilation_h": 1, "dilation_w": 1, "group": 1, "deformable_group": 1, "with_bias": False}
    output = torch.empty(1, 128, 64, 64)
    gradient = torch.randn_like(output)
    yield (
        "deformable convolution v2, 128 channels, 64x64",
        lambda find: find("modulated_deform_conv_forward")(
            data, weight, bias, unused, offset, mask, output, unused, **settings
        ),
    )
    yield (
        "  its gradients",
        lambda find: find("modulated_deform_conv_backward")(
            data,
            weight,
            bias,
            unused,
            offset,
            mask,
            unused,
            *(torch.zeros_like(t) for t in (data, weight, bias, offset, mask)),
            gradient,
            **settings,
        ),
    )


def measure(rounds: int, threads: int) -> list[dict]:
    import torch

    from bench.ops.torch_ops import OPERATORS

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    finders: dict[str, Find] = {"torch": OPERATORS.__getitem__}
    if next(c for c in provider.describe().candidates if c.provider == "mmcv").fault is None:
        compiled = provider.compiled_extension()
        finders["mmcv"] = lambda name: getattr(compiled, name)
    results = []
    for cases in (suppression_cases, roi_align_cases, deform_conv_cases):
        for name, call in cases(torch):
            times: dict[str, list[float]] = {source: [] for source in finders}
            for _ in range(rounds + 1):
                for source, find in finders.items():
                    start = time.process_time()
                    call(find)
                    times[source].append(1000 * (time.process_time() - start))
            medians = {source: statistics.median(values[1:]) for source, values in times.items()}
            results.append({"operator": name, "milliseconds": medians})
    return results


def table(results: list[dict]) -> str:
    lines = [f"{'operator':<50} {'torch (ms)':>10} {'mmcv (ms)':>10} {'torch/mmcv':>10}"]
    for result in results:
        ours, theirs = result["milliseconds"]["torch"], result["milliseconds"].get("mmcv")
        beside = f"{theirs:>10.1f} {ours / theirs:>10.2f}" if theirs else f"{'-':>10} {'-':>10}"
        lines.append(f"{result['operator']:<50} {ours:>10.1f} {beside}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = measure(arguments.rounds, arguments.threads)
    print(json.dumps(results, indent=2) if arguments.json else table(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
