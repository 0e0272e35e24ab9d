"""From the predictions of a run folder to numbers, without torch: a run can be scored again at any time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from bench.api import DataError, Instances, UsageError
from bench.data import Dataset, Split
from bench.data.cards import Card
from bench.engine import timing
from bench.metrics import MetricResult, Protocol, ProtocolScores, Scorer, make_protocols
from bench.metrics.evidence import measure, named
from bench.progress import reporting
from bench.records import ImageResultRecord, ResultRecord, metric_of_part


def protocols_of(card: Card) -> dict[str, Mapping[str, Any]]:
    """The protocols that a data set reports, with their parameters; the first one ranks."""
    return {protocol.name: protocol.params for protocol in card.protocols}


def made_protocols(card: Card) -> list[Protocol]:
    """The protocols that a data set reports, ready to score.

    Raises:
        DataError: the card names a protocol or a parameter that there is not.
    """
    try:
        return make_protocols(protocols_of(card), card.task.classes)
    except UsageError as error:
        raise DataError(f"{card.path}: protocols: {error.message}", error.hint) from None


def parts_of(dataset: Dataset, split: str) -> dict[str, frozenset[str]]:
    """The splits of the same scheme that lie inside ``split``: levels of difficulty, for instance.

    Returns:
        image ids by the name of the part; nothing for a split without parts.
    """
    scheme, _ = dataset.card.address(split)
    whole = frozenset(dataset.ids_of(split))
    parts = {}
    for name in dataset.split_names:
        ids = frozenset(dataset.ids_of(name))
        if ids and ids < whole and dataset.card.address(name)[0] == scheme:
            parts[name.rpartition("/")[2]] = ids
    return parts


def score_run(
    label: str,
    card: Card,
    split: Split,
    predictions: Mapping[str, Instances],
    min_score: float | None,
    parts: Mapping[str, Collection[str]],
) -> tuple[tuple[ResultRecord, ...], tuple[ImageResultRecord, ...]]:
    """Every protocol of the card over the predictions of a run.

    Args:
        label: of the run, for progress and messages.
        card: of the data set.
        split: the images that were predicted.
        predictions: by image, one for every image of ``split``.
        min_score: of the run's operating point; None where every detection counts.
        parts: image ids by name, see :func:`parts_of`. Each of them that has images gets numbers of its own, those of
            single classes aside, under names made by :func:`bench.records.metric_of_part`.

    Raises:
        DataError: an image has no prediction.
    """
    missing = [image_id for image_id in split.ids if image_id not in predictions]
    if missing:
        raise DataError(f"{label}: {len(missing)} images have no prediction, such as {missing[0]}", "run again")
    scorer = Scorer(protocols_of(card), classes=card.task.classes)
    scorers = {
        part: Scorer(protocols_of(card), classes=card.task.classes, images=False)
        for part, ids in parts.items()
        if not set(ids).isdisjoint(split.ids)
    }
    with reporting(f"scoring {label}", "image") as report:
        for count, sample in enumerate(split, start=1):
            truth = sample.instances if sample.instances is not None else Instances.empty(*sample.shape)
            try:
                evidence = measure(scorer.protocols, sample.id, truth, predictions[sample.id], sample.group, min_score)
            except DataError as error:
                raise named(sample.id, error) from None
            scorer.put(evidence)
            for part, of_part in scorers.items():
                if sample.id in parts[part]:
                    of_part.put(evidence)
            report(count, len(split), "")
    scores = scorer.result()
    results = [record for scored in scores.protocols.values() for record in _results(scored)]
    for part, of_part in scorers.items():
        results += [
            replace(record, metric=metric_of_part(record.metric, part))
            for scored in of_part.result().protocols.values()
            for record in _results(scored)
            if "/" not in record.metric
        ]
    return (
        tuple(results),
        tuple(record for scored in scores.protocols.values() for record in _image_results(scored)),
    )


def timing_results(results: Iterable[MetricResult]) -> tuple[ResultRecord, ...]:
    """The latency of a run as records."""
    return tuple(_result(timing.PROTOCOL, timing.VERSION, {}, result) for result in results)


def _results(scored: ProtocolScores) -> Iterable[ResultRecord]:
    return (_result(scored.name, scored.version, scored.params, result) for result in scored.results)


def _result(protocol: str, version: str, params: Mapping[str, Any], result: MetricResult) -> ResultRecord:
    return ResultRecord(
        protocol=protocol,
        protocol_version=version,
        metric=result.metric,
        value=result.value,
        unit=result.unit,
        higher_is_better=result.higher_is_better,
        reason=result.reason,
        low=result.low,
        high=result.high,
        n=result.n,
        params=params,
    )


def _image_results(scored: ProtocolScores) -> Iterable[ImageResultRecord]:
    return (
        ImageResultRecord(
            image.image_key,
            scored.name,
            scored.version,
            image.metric,
            image.value,
            image.tp,
            image.fp,
            image.fn,
        )
        for image in scored.images
    )
