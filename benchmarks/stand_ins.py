"""How near are the stand-ins to the real images? Objects, sizes, contacts, contrast, and PQ of a threshold on both.

python -m benchmarks.stand_ins --data-root DATA                  # every card whose real files are there
python -m benchmarks.stand_ins bbbc039 --images 40 --data-root DATA
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

import numpy as np
from scipy import ndimage

from bench.api import Sample, to_gray
from bench.data import Split, card_names, open_dataset
from bench.errors import BenchError
from bench.metrics import score
from methods.otsu_watershed import OtsuWatershed


def touching(labels: np.ndarray) -> float:
    """Share of the objects of a label image that have a pixel of another within 2 pixels."""
    largest = ndimage.maximum_filter(labels, 5)
    others = np.where(labels > 0, labels, np.iinfo(labels.dtype).max)
    smallest = ndimage.minimum_filter(others, 5)
    met = (labels > 0) & ((largest != labels) | (smallest != labels))
    return len(np.unique(labels[met])) / max(1, int(labels.max()))


def contrast(sample: Sample, labels: np.ndarray) -> float:
    """How far the median grey level of objects lies from that of the background, in deviations of the background."""
    gray = to_gray(sample.image)
    inside, outside = gray[labels > 0], gray[labels == 0]
    return abs(float(np.median(inside)) - float(np.median(outside))) / max(float(outside.std()), 1e-9)


def measure(split: Split, method: OtsuWatershed) -> str:
    """A row: medians over the images, and PQ of the threshold over all of them."""
    counts, sizes, contacts, contrasts, truths, found = [], [], [], [], [], []
    for sample in split:
        truth = sample.instances
        if truth is None or not len(truth):
            continue
        labels = truth.to_label_map("smallest")
        counts.append(len(truth))
        sizes.append(float(np.median(np.sqrt(4 * np.bincount(labels.ravel())[1:] / np.pi))))
        contacts.append(touching(labels))
        contrasts.append(contrast(sample, labels))
        truths.append(truth)
        found.append(method.predict(sample.image))
    pq = score(truths, found, ["panoptic"]).protocols["panoptic"].result("PQ")
    return (
        f"{len(counts):6} {median(counts):8.0f} {median(sizes):9.0f} {100 * median(contacts):9.0f} "
        f"{median(contrasts):9.1f} {100 * pq.value:7.1f} [{100 * pq.low:.1f}, {100 * pq.high:.1f}]"
    )


def main() -> None:
    """Print two rows a card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cards", nargs="*", default=[])
    parser.add_argument("--images", type=int, default=60, help="of each at most")
    parser.add_argument("--data-root", type=Path, required=True)
    arguments = parser.parse_args()
    print(f"{'':22} images  objects  diameter  touching  contrast  PQ of a threshold")
    print(f"{'':22}         /image        px         %")
    for name in arguments.cards or card_names():
        for stand_in in (False, True):
            try:
                dataset = open_dataset(name, arguments.data_root, stand_in=stand_in)
            except BenchError as error:
                if arguments.cards:
                    raise SystemExit(f"{name}: {error}") from None
                break
            split = dataset.everything().limit(arguments.images)
            row = measure(split, OtsuWatershed(dataset.task))
            print(f"{name:12} {'stand-in' if stand_in else 'real':9}{row}", flush=True)


if __name__ == "__main__":
    main()
