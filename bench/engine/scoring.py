"""From the predictions of a run folder to numbers, without torch: a run can be scored again at any time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench.api import DataError, Instances
from bench.data import Split
from bench.data.cards import Card
from bench.engine import folder as files
from bench.engine import timing
from bench.engine.folder import RunFolder
from bench.metrics import MetricResult, ProtocolScores, Scorer
from bench.progress import reporting
from bench.records import ImageResultRecord, ResultRecord


def protocols_of(card: Card) -> dict[str, Mapping[str, Any]]:
    """The protocols that a data set reports, with their parameters; the first one ranks."""
    return {protocol.name: protocol.params for protocol in card.protocols}


def score_run(
    job_name: str, card: Card, split: Split, run: RunFolder
) -> tuple[tuple[ResultRecord, ...], tuple[ImageResultRecord, ...]]:
    """Every protocol of the card over the predictions of a run.

    Args:
        job_name: for progress.
        card: of the data set.
        split: the images that were predicted.
        run: with a prediction for every image of ``split``.

    Raises:
        DataError: an image has no prediction, or the journal is damaged.
    """
    predictions = {record["id"]: record for record in run.predictions().read()}
    missing = [image_id for image_id in split.ids if image_id not in predictions]
    if missing:
        raise DataError(f"{run.path}: {len(missing)} images have no prediction, such as {missing[0]}", "run again")
    scorer = Scorer(protocols_of(card), classes=card.task.classes)
    with reporting(f"scoring {job_name}", "image") as report:
        for count, sample in enumerate(split, start=1):
            _, found = files.from_record(predictions[sample.id])
            truth = sample.instances if sample.instances is not None else Instances.empty(*sample.shape)
            scorer.add(sample.id, truth, found, group=sample.group)
            report(count, len(split), "")
    scores = scorer.result()
    return (
        tuple(record for scored in scores.protocols.values() for record in _results(scored)),
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
