"""Are the stand-ins worth a training? A threshold against a network, on images that neither has seen.

python -m benchmarks.learnable                          # every generator; half an hour and more on two cores
python -m benchmarks.learnable bbbc039 dic_hela         # these cards only
python -m benchmarks.learnable --steps 700 --train 60 --test 16

Of each card a stand-in of few images is generated, all its objects are made one class, and where the median object is
larger than 32 pixels the images are shrunk until it is not. A small network (CALT-US, which learns where cells touch,
or a U-Net with batch normalisation and a watershed) is trained from random weights and held against Otsu's threshold
with a watershed, by PQ; the gain is the difference of the two over the same images, with its paired interval. Both
drop what covers less than a quarter of the square of a small object's size (5th percentile of the training images).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import msgspec
import numpy as np
from skimage.transform import resize

from bench.api import FitContext, Instances, Method, ObjectStatistics, Sample, Schedule
from bench.data import Dataset, Split, open_dataset
from bench.data import dataset as opening
from bench.data.cards import Card, load_card
from bench.metrics import Scores, compare, score
from methods._dense import DenseMapMethod
from methods.calt_us import CALTUS
from methods.otsu_watershed import OtsuWatershed
from methods.unet import UNetMethod

CARDS = (
    "bbbc039",
    "dsb2018",
    "mcf10a",
    "usiigaci",
    "dic_hela",
    "phc_u373",
    "neural",
    "livecell",
    "sartorius",
    "evican60_cell",
)
"""One card of every generator."""
WIDTHS = (16, 32, 64, 128)
NETWORKS: dict[str, tuple[type[DenseMapMethod], str, dict[str, object]]] = {
    "calt_us": (CALTUS, "", {"turns": 1}),
    "unet": (UNetMethod, "bce", {"norm": "batch", "decoder": "watershed", "patience": 0}),
}
"""What is trained: method, variant, and settings beside those that both share."""
LARGEST = 32.0
"""Pixels across, of the median object."""


class OneClass:
    """The images of a split, shrunk, with all their objects of one class and without overlap."""

    def __init__(self, split: Split, scale: float) -> None:
        self._split, self._scale = split, scale

    @property
    def ids(self) -> tuple[str, ...]:
        return self._split.ids

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> Sample:
        sample = self._split[index]
        truth = sample.instances if sample.instances is not None else Instances.empty(*sample.shape)
        labels = truth.to_label_map("smallest")
        if self._scale == 1:
            return replace(sample, instances=Instances.from_label_map(labels))
        shape = tuple(max(1, round(side * self._scale)) for side in sample.shape)
        image = resize(sample.image, shape, order=1, anti_aliasing=True, preserve_range=True)
        small = resize(labels, shape, order=0, anti_aliasing=False, preserve_range=True).astype(np.int32)
        return replace(sample, image=image.astype(sample.image.dtype), instances=Instances.from_label_map(small))

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


def few(card: Card, train: int, test: int) -> Card:
    """The card with a stand-in of few images."""
    params = {
        "bbbc039": {"images": 2 * (train + test)},
        "dsb2018": {"images": 2 * (train + test), "test": test},
        "evican": {"train": train, "val": 4, "easy": test, "medium": 1, "difficult": 1},
        "hela": {"frames": train},
        "livecell": {"train": train, "val": 8, "test": test},
        "mcf10a": {"train": train, "val": 1, "test": test},
        "neural": {"train": train, "val": 1, "test": test},
        "sartorius": {"train": 2 * (train + test), "unlabelled": 1, "competition": 1},
        "u373": {"frames": train},
        "usiigaci": {"images": 2 * (train + test)},
    }
    return msgspec.structs.replace(
        card, stand_in=msgspec.structs.replace(card.stand_in, params=params[card.stand_in.generator])
    )


def opened(name: str, folder: Path, train: int, test: int) -> Dataset:
    """The stand-in of few images."""
    with patch.object(opening, "load_card", lambda name: few(load_card(name), train, test)):
        return open_dataset(name, folder, stand_in=True, cache=folder / "cache")


def measure(name: str, arguments: argparse.Namespace) -> dict[str, object]:
    """PQ of the threshold and of the network, on images that were not trained on."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset = opened(name, folder, arguments.train, arguments.test)
        train, _ = dataset.training_splits()
        assert train is not None
        objects = ObjectStatistics.measure(s.instances for s in OneClass(train.limit(arguments.train), 1.0))
        scale = min(1.0, LARGEST / objects.size_median)
        seen = OneClass(train.limit(arguments.train), scale)
        held_back = list(OneClass(dataset.split(arguments.split.get(name)).limit(arguments.test), scale))
        truths = [sample.instances for sample in held_back]
        task = replace(dataset.task, classes=("cell",), objects=None)

        def scores(predictor: Method) -> Scores:
            return score(truths, [predictor.predict(sample.image) for sample in held_back], ["panoptic"])

        smallest = max(10, int((scale * objects.size_p05) ** 2 / 4))
        floor = OtsuWatershed(task, OtsuWatershed.make_params("", {"min_area": smallest}))
        thresholded = scores(floor)
        kind, variant, settings = NETWORKS[arguments.network]
        shared = {
            "widths": WIDTHS,
            "crop": arguments.crop,
            "learning_rate": arguments.learning_rate,
            "min_area": smallest,
        }
        method = kind(task, kind.make_params(variant, {**shared, **settings}))
        begun = time.monotonic()
        schedule = Schedule(iterations=arguments.steps, batch_size=4)
        method.load(method.fit(seen, None, FitContext(folder / "training", schedule, "short")))
        seconds = time.monotonic() - begun
        learned = scores(method)
    (gain,) = compare({"network": learned, "threshold": thresholded}, "panoptic", "PQ").differences
    of_threshold, of_network = (found.protocols["panoptic"].result("PQ") for found in (thresholded, learned))
    return {
        "card": name,
        "network of": arguments.network,
        "scale": round(scale, 2),
        "train": len(seen),
        "test": len(held_back),
        "threshold": [of_threshold.value, of_threshold.low, of_threshold.high],
        "network": [of_network.value, of_network.low, of_network.high],
        "gain": [gain.difference, gain.low, gain.high],
        "seconds": round(seconds),
    }


def main() -> None:
    """Measure and print a row a card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cards", nargs="*", default=list(CARDS))
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--crop", type=int, default=160)
    parser.add_argument("--train", type=int, default=60, help="images")
    parser.add_argument("--test", type=int, default=16, help="images")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--network", choices=NETWORKS, default="calt_us")
    parser.add_argument("--json", action="store_true", help="a line of JSON a card")
    arguments = parser.parse_args()
    arguments.split = {"evican60_cell": "easy"}
    lost = []
    for name in arguments.cards:
        row = measure(name, arguments)
        if arguments.json:
            print(json.dumps(row), flush=True)
        else:
            threshold, network, gain = (
                f"{100 * value:5.1f} [{100 * low:.1f}, {100 * high:.1f}]"
                for value, low, high in (row["threshold"], row["network"], row["gain"])
            )
            print(
                f"{name:14} threshold {threshold:22} network {network:22} gain {gain:22} {row['seconds']} s", flush=True
            )
        if row["gain"][1] <= 0:
            lost.append(name)
    sys.exit(f"no better than a threshold, as far as can be told: {', '.join(lost)}" if lost else 0)


if __name__ == "__main__":
    main()
