"""How fast the metrics are, beside the libraries one would otherwise take, on images full of cells.

    python -m benchmarks.metrics [--images 100] [--rounds 3] [--slow 4] [--more] [--memory N]

Every contender gets the same masks, parsed and in memory, on one core. They take turns, round by round, so that
whatever else the machine does slows all alike; the fastest round counts, in CPU time. pycocotools and py-ctcmetrics
see a few of the images only and are scaled up, which favours them. What is not installed is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import rle
from bench.api import Instances
from bench.metrics import Scorer

HEIGHT, WIDTH = 520, 704
SUITE: dict[str, dict[str, Any]] = {
    "voc": {},
    "coco": {},
    "kaggle": {},
    "ctc": {},
    "semantic": {},
    "touching": {},
    "panoptic": {"boundary": 0},
}
"""Everything but boundary F1."""
MIXED = (60, 150, 290, 660)
"""Cells an image, in turn: sparse to crowded, 290 on average."""

Pair = tuple[Instances, Instances]


# -- the workload -----------------------------------------------------------------------------------


def ellipse(y: float, x: float, a: float, b: float, angle: float) -> tuple[tuple[slice, slice], np.ndarray]:
    """A filled ellipse, as a mask and the window it lies in."""
    reach = int(max(a, b)) + 2
    rows = slice(max(0, int(y) - reach), min(HEIGHT, int(y) + reach + 1))
    columns = slice(max(0, int(x) - reach), min(WIDTH, int(x) + reach + 1))
    down, right = np.mgrid[rows, columns]
    down, right = down - y, right - x
    along = right * np.cos(angle) + down * np.sin(angle)
    across = down * np.cos(angle) - right * np.sin(angle)
    return (rows, columns), (along / a) ** 2 + (across / b) ** 2 <= 1


def image(random: np.random.Generator, cells: int) -> Pair:
    """Touching cells on a jittered grid, and predictions that overlap: moved, reshaped, some lost, some made up."""
    spacing = float(np.sqrt(HEIGHT * WIDTH / cells))
    grid = np.mgrid[spacing / 2 : HEIGHT : spacing, spacing / 2 : WIDTH : spacing].reshape(2, -1).T
    centres = grid + random.uniform(-spacing / 4, spacing / 4, grid.shape)
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    shapes = []
    for number, (y, x) in enumerate(centres, start=1):
        a, b = spacing * random.uniform(0.38, 0.7), spacing * random.uniform(0.3, 0.5)
        angle = random.uniform(0, np.pi)
        window, inside = ellipse(y, x, a, b, angle)
        free = labels[window]
        free[inside & (free == 0)] = number
        if random.random() < 0.9:
            wrong = random.uniform(0.03, 0.25)
            y, x = np.add((y, x), random.normal(0, 0.4 * wrong * spacing, 2))
            a, b = np.maximum((a, b) * (1 + random.normal(0, wrong / 2, 2)), 2)
            shapes.append((y, x, a, b, angle + random.normal(0, wrong)))
    while len(shapes) < len(centres):
        y, x = random.uniform(0, (HEIGHT, WIDTH))
        shapes.append(
            (y, x, spacing * random.uniform(0.3, 0.6), spacing * random.uniform(0.25, 0.45), random.uniform(0, 3))
        )
    masks = []
    for shape in shapes:
        mask = np.zeros((1, HEIGHT, WIDTH), np.bool_)
        window, inside = ellipse(*shape)
        mask[0][window] = inside
        masks += rle.encode_masks(mask)
    found = Instances(HEIGHT, WIDTH, tuple(masks), scores=random.random(len(masks)))
    return Instances.from_label_map(labels), found


def workload(images: int, cells: Sequence[int], seed: int = 0) -> list[Pair]:
    """``images`` images, of about so many cells each, in turn."""
    random = np.random.default_rng(seed)
    return [image(random, cells[number % len(cells)]) for number in range(images)]


# -- the contenders ---------------------------------------------------------------------------------


@dataclass
class Contender:
    """A way to score: ``prepare`` is not timed, ``run`` is; on ``share`` of the images."""

    name: str
    prepare: Callable[[list[Pair]], Any]
    run: Callable[[Any], object]
    images: int | None = None


def our_suite(pairs: list[Pair]) -> object:
    """Every protocol, boundary F1 aside."""
    scorer = Scorer(SUITE, intervals=False, images=False)
    for key, (truth, prediction) in enumerate(pairs):
        scorer.add(str(key), truth, prediction)
    return scorer.result()


def as_coco(pairs: list[Pair]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Truth and results as COCO dictionaries."""
    annotations: list[dict[str, Any]] = []
    results = []
    for number, (truth, prediction) in enumerate(pairs, start=1):
        for mask, area, (x0, y0, x1, y1) in zip(truth.rles, truth.areas.tolist(), truth.boxes.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": area,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": {"size": [HEIGHT, WIDTH], "counts": mask.decode()},
                }
            )
        for mask, score in zip(prediction.rles, prediction.scores.tolist(), strict=True):
            segmentation = {"size": [HEIGHT, WIDTH], "counts": mask.decode()}
            results.append({"image_id": number, "category_id": 1, "score": score, "segmentation": segmentation})
    images = [{"id": number, "height": HEIGHT, "width": WIDTH} for number in range(1, len(pairs) + 1)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}, results


def faster_coco_eval(pairs: list[Pair]) -> Any:
    from faster_coco_eval import COCO, COCOeval_faster

    truth_file, results = as_coco(pairs)
    truth = COCO(truth_file)
    evaluation = COCOeval_faster(truth, truth.loadRes(results), "segm", print_function=lambda *_: None)
    evaluation.params.maxDets = [2000]
    return evaluation


def pycocotools(pairs: list[Pair]) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth_file, results = as_coco(pairs)
        truth = COCO()
        truth.dataset = truth_file
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
    evaluation.params.maxDets = [2000]
    return evaluation


def evaluate(evaluation: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()


def ctc_files(pairs: list[Pair]) -> list[tuple[str, str]]:
    import tifffile

    folder = Path(tempfile.mkdtemp(prefix="bench-metrics-"))
    names = []
    for number, (truth, prediction) in enumerate(pairs):
        both = str(folder / f"t{number}.tif"), str(folder / f"p{number}.tif")
        tifffile.imwrite(both[0], truth.to_label_map("index").astype(np.int64))
        tifffile.imwrite(both[1], prediction.to_label_map("score").astype(np.int64))
        names.append(both)
    return names


def ctc_seg(names: list[tuple[str, str]]) -> float:
    from ctc_metrics.metrics import seg
    from ctc_metrics.utils.representations import match

    frames = [match(*both) for both in names]
    return float(seg([f[0] for f in frames], [f[4] for f in frames]))


def contenders(slow_images: int) -> list[Contender]:
    """All that are installed, ours first."""
    found = [Contender("bench: every protocol", lambda pairs: pairs, our_suite)]
    if importlib.util.find_spec("faster_coco_eval"):
        found.append(Contender("faster-coco-eval: mask AP", faster_coco_eval, evaluate))
    if slow_images:
        found.append(Contender("pycocotools: mask AP", pycocotools, evaluate, slow_images))
        if importlib.util.find_spec("ctc_metrics"):
            found.append(Contender("py-ctcmetrics: SEG", ctc_files, ctc_seg, slow_images))
    return found


# -- measuring --------------------------------------------------------------------------------------


def race(pairs: list[Pair], rounds: int, slow_images: int) -> dict[str, float]:
    """CPU seconds of each contender for all pairs: the fastest of its rounds."""
    seconds: dict[str, list[float]] = {}
    for number in range(rounds):
        for contender in contenders(slow_images):
            if contender.images and number:
                continue  # the slow ones run once
            chosen = pairs[: contender.images]
            ready = contender.prepare(chosen)
            begun = time.process_time()
            contender.run(ready)
            spent = (time.process_time() - begun) * len(pairs) / len(chosen)
            seconds.setdefault(contender.name, []).append(spent)
    return {name: min(times) for name, times in seconds.items()}


def race_of_workers(pairs: list[Pair], rounds: int) -> tuple[float, float]:
    """Wall seconds of our suite with one and with two processes, the median of the rounds."""
    from bench.metrics import score

    times: dict[int, list[float]] = {1: [], 2: []}
    truths, predictions = [t for t, _ in pairs], [p for _, p in pairs]
    for _ in range(rounds):
        for workers, spent in times.items():
            begun = time.perf_counter()
            score(truths, predictions, SUITE, workers=workers, intervals=False, images=False)
            spent.append(time.perf_counter() - begun)
    return statistics.median(times[1]), statistics.median(times[2])


def slowdown_of_two(pairs: list[Pair], rounds: int) -> float:
    """How many times as long our suite takes while another process does the same on this machine."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    alone, beside = [], []
    for _ in range(rounds):
        begun = time.perf_counter()
        our_suite(pairs)
        alone.append(time.perf_counter() - begun)
        other = context.Process(target=lambda: [our_suite(pairs) for _ in range(3)])
        other.start()
        begun = time.perf_counter()
        our_suite(pairs)
        beside.append(time.perf_counter() - begun)
        other.join()
    return statistics.median(beside) / statistics.median(alone)


def time_of_bootstrap(pairs: list[Pair], resamples: int = 1000) -> float:
    """CPU seconds that the intervals of every number add."""
    scorer = Scorer("all", images=False, resamples=resamples)
    for key, (truth, prediction) in enumerate(pairs):
        scorer.add(str(key), truth, prediction)
    begun = time.process_time()
    scorer.result()
    return time.process_time() - begun


def peak_memory(pairs: list[Pair], images: int) -> float:
    """MiB that the process has used at most, after scoring ``images`` images one after another."""
    scorer = Scorer(SUITE, intervals=False, images=False)
    for key in range(images):
        scorer.add(str(key), *pairs[key % len(pairs)])
    scorer.result()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--slow", type=int, default=4, metavar="IMAGES", help="for the slow contenders; 0: leave them out"
    )
    parser.add_argument("--more", action="store_true", help="other densities, two processes, the bootstrap")
    parser.add_argument("--memory", type=int, default=0, metavar="IMAGES", help="peak memory after so many images")
    chosen = parser.parse_args(arguments)

    pairs = workload(chosen.images, MIXED)
    show(pairs, "60 to 660 cells an image", race(pairs, chosen.rounds, chosen.slow))
    if chosen.more:
        one, two = race_of_workers(pairs, chosen.rounds)
        print(f"  {'two processes, wall time':28s} {two:9.3f} s  (one: {one:.3f} s, ratio {two / one:.2f})")
        slowdown = slowdown_of_two(pairs, chosen.rounds)
        print(f"  {'floor of that ratio here':28s} {slowdown / 2:9.2f}    (two independent processes, each slowed)")
        print(f"  {'1,000 resamples of all':28s} {time_of_bootstrap(pairs):9.3f} s")
    if chosen.memory:
        print(f"  {f'peak memory, {chosen.memory} images':28s} {peak_memory(pairs, chosen.memory):9.0f} MiB")
    for cells, images in ((60, chosen.images), (290, chosen.images), (1000, chosen.images // 3)) if chosen.more else ():
        pairs = workload(max(images, 1), [cells])
        show(pairs, f"{cells} cells an image", race(pairs, chosen.rounds, 0))


def show(pairs: list[Pair], title: str, seconds: dict[str, float]) -> None:
    truths, predictions = (sum(map(len, side)) for side in zip(*pairs, strict=True))
    print(f"\n{len(pairs)} images {HEIGHT}x{WIDTH}, {title}: {truths} truths, {predictions} predictions")
    ours = next(iter(seconds.values()))
    for name, spent in seconds.items():
        print(f"  {name:28s} {spent:9.3f} s  {spent / ours:8.2f} x")


if __name__ == "__main__":
    main()
