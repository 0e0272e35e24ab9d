"""Parameters and multiply-adds of every method's network, for one image.

    python -m benchmarks.complexity [--side 512] [--method NAME ...]

The network has freshly initialised weights and one class; what is counted is one prediction, from the image to masks,
by torch's own counter (convolutions and matrix products; a multiply-add is one). Box heads see as many proposals as
the method's settings allow, so the figure is an upper bound for them. External tools and methods without a network are
left out.
"""

from __future__ import annotations

import argparse

import numpy as np

from bench.api import BenchError, ObjectStatistics, Task
from bench.registry import registry

OBJECTS = ObjectStatistics(20, 40, 80, 2.0, 50, 100)
"""Of the imagined data set: cells that no published anchor misses."""


def measure(name: str, side: int) -> tuple[int, float]:
    """Parameters, and billions of multiply-adds for an image of ``side`` by ``side`` pixels."""
    from torch.utils.flop_counter import FlopCounterMode

    entry = registry().methods[name]
    task = Task(("cell",), "phase contrast", objects=OBJECTS, image_shape=(side, side), max_detections=500)
    method = entry.method(task, entry.method.make_params(entry.variant))
    method.load_fresh(0)
    image = np.random.default_rng(0).integers(0, 255, (side, side), np.uint8)
    with FlopCounterMode(display=False) as counter:
        method.predict(image)
    return method.n_parameters() or 0, counter.get_total_flops() / 2e9


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--method", nargs="*", default=None)
    chosen = parser.parse_args(arguments)
    names = chosen.method or [
        name
        for name, entry in registry().methods.items()
        if entry.method.trainable and entry.method.origin in ("reimplementation", "stock")
    ]
    print(f"{'method':28s} {'parameters':>12s} {'G multiply-adds':>16s}   one image {chosen.side} x {chosen.side}")
    for name in names:
        try:
            parameters, operations = measure(name, chosen.side)
        except BenchError as error:
            print(f"{name:28s} {error}")
            continue
        print(f"{name:28s} {parameters:12,d} {operations:16.1f}", flush=True)


if __name__ == "__main__":
    main()
