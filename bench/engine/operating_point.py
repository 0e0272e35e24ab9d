"""The confidence from which a detection counts where a protocol knows no confidence.

Average precision orders all detections by their confidence, so a detector keeps even the most doubtful. Counted without
confidence (PQ, SEG, the Kaggle score), the same detections would drown the good ones. Whoever uses a detector on cells
picks a threshold; here it is picked for every run, by one rule and never on the images that are evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from bench.api import ControlMethod, Instances, Method, Sample
from bench.data import Dataset, Split
from bench.data.cards import Card
from bench.engine import folder as files
from bench.engine.folder import RunFolder
from bench.engine.scoring import made_protocols
from bench.metrics import Scorer
from bench.progress import reporting
from bench.store.files import OperatingPoint

PROTOCOL, METRIC = "panoptic", "PQ"
"""What is best at the chosen confidence; of the numbers without confidence it punishes misses and inventions alike."""
STEPS = tuple(step / 20 for step in range(20))
"""0, 0.05, ..., 0.95: the confidences that are tried where all lie between 0 and 1, else the quantiles of them."""
RULE = 2
"""Number of the rule, part of every run's key."""
IMAGES = 50
"""At most so many images are looked at."""


def matters(card: Card) -> bool:
    """Whether a data set has a protocol that knows no confidence."""
    return not all(protocol.overlaps for protocol in made_protocols(card))


def needed(card: Card, method: Method) -> bool:
    """Whether a method has confidences, and a data set a protocol that knows none."""
    return method.scored and not isinstance(method, ControlMethod) and matters(card)


def images_to_choose_on(dataset: Dataset, evaluated: str, limit: int | None, seed: int) -> Split | None:
    """Images that are not evaluated: of the validation split, else of the training split, else none."""
    train, val = dataset.training_splits(evaluated)
    taken = set(dataset.ids_of(evaluated))
    for split in (val, train):
        if split is not None and taken.isdisjoint(split.ids):
            return split.limit(min(IMAGES, IMAGES if limit is None else limit), seed)
    return None


def choose(
    run: RunFolder, split: Split, card: Card, predict: Callable[[Sample], Instances], label: str
) -> OperatingPoint | None:
    """Predict ``split`` and keep the confidence at which the predictions agree best with its truth.

    Of equally good confidences the one nearest to the middle of those tried is taken. Interrupted or killed, it goes on
    where it was.

    Args:
        run: the choice, and the predictions behind it, go into its folder.
        split: images that are not evaluated; those that nobody annotated are passed over.
        card: of the data set.
        predict: sample -> its prediction, held against the contract.
        label: of the run, for progress.

    Returns:
        what was chosen; None where no image is annotated.
    """
    journal = files.Journal(run.path / "operating_point.jsonl")
    found = dict(files.from_record(record) for record in journal.read())
    truths: dict[str, Instances] = {}
    with reporting(f"choosing the confidence of {label}", "image") as report:
        for count, sample in enumerate(split, start=1):
            if sample.instances is None:
                continue
            truths[sample.id] = sample.instances
            if sample.id not in found:
                found[sample.id] = predict(sample)
                journal.append(files.to_record(sample.id, found[sample.id]))
            report(count, len(split), "")
    if not truths:
        return None
    tried = candidates([found[image] for image in truths])
    values = {}
    with reporting(f"comparing confidences of {label}", "confidence") as report:
        for count, confidence in enumerate(tried, start=1):
            values[confidence] = _agreement(card, truths, found, confidence)
            report(count, len(tried), "")
    middle = tried[len(tried) // 2]
    best = max(values, key=lambda c: (-1.0 if values[c] is None else values[c], -abs(c - middle)))
    point = OperatingPoint(best, split.name, len(truths), f"{PROTOCOL} {METRIC}", values[best])
    run.write_operating_point(point)
    return point


def candidates(found: Iterable[Instances]) -> tuple[float, ...]:
    """The confidences that are tried, ascending: :data:`STEPS`, or quantiles where a method's scores are no shares.

    A method may score by anything of which more is surer: a grey level, an area, a logit.

    Args:
        found: predictions with scores.
    """
    scores = np.concatenate([its.scores for its in found if its.scores is not None] or [np.zeros(0)])
    if not scores.size or (scores.min() >= 0 and scores.max() <= 1):
        return STEPS
    return tuple(float(score) for score in np.unique(np.quantile(scores, STEPS, method="lower")))


def _agreement(
    card: Card, truths: Mapping[str, Instances], found: Mapping[str, Instances], confidence: float
) -> float | None:
    """PQ of what is found with at least a confidence."""
    scorer = Scorer(
        {PROTOCOL: {"boundary": 0}}, classes=card.task.classes, intervals=False, images=False, min_score=confidence
    )
    for image, truth in truths.items():
        scorer.add(image, truth, found[image])
    return scorer.result().protocols[PROTOCOL][METRIC]
