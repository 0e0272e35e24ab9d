"""The confidence from which a detection counts where a protocol knows no confidence.

Average precision orders all detections by their confidence, so a detector keeps even the most doubtful. Counted without
confidence (PQ, SEG, the Kaggle score), the same detections would drown the good ones. Whoever uses a detector on cells
picks a threshold; here it is picked for every run, by one rule and never on the images that are evaluated.
"""

from __future__ import annotations

from collections.abc import Callable

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
CONFIDENCES = tuple(step / 20 for step in range(20))
"""0, 0.05, ..., 0.95."""
RULE = 1
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

    Of equally good confidences the one nearest to 0.5 is taken. Interrupted or killed, it goes on where it was.

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
    with reporting(f"choosing the confidence of {label}", "image") as report:
        scorers = {
            confidence: Scorer(
                {PROTOCOL: {"boundary": 0}},
                classes=card.task.classes,
                intervals=False,
                images=False,
                min_score=confidence,
            )
            for confidence in CONFIDENCES
        }
        annotated = 0
        for count, sample in enumerate(split, start=1):
            if sample.instances is None:
                continue
            annotated += 1
            if sample.id not in found:
                found[sample.id] = predict(sample)
                journal.append(files.to_record(sample.id, found[sample.id]))
            for scorer in scorers.values():
                scorer.add(sample.id, sample.instances, found[sample.id])
            report(count, len(split), "")
    if not annotated:
        return None
    values = {confidence: scorer.result().protocols[PROTOCOL][METRIC] for confidence, scorer in scorers.items()}
    best = max(values, key=lambda c: (-1.0 if values[c] is None else values[c], -abs(c - 0.5)))
    point = OperatingPoint(best, split.name, annotated, f"{PROTOCOL} {METRIC}", values[best])
    run.write_operating_point(point)
    return point
