"""Exact metrics: every protocol from one matching pass an image.

    from bench.metrics import score
    scores = score(truths, predictions, ["voc", "kaggle"])
    scores.protocols["voc"]["AP@0.5"]

Truths and predictions are :class:`bench.api.Instances` or label images.
"""

from bench.metrics.compare import Comparison, Difference, compare
from bench.metrics.protocol import Protocol
from bench.metrics.registry import list_protocols, make_protocols, protocol, protocol_names
from bench.metrics.scoring import Scorer, score
from bench.metrics.types import ImageMetric, MetricResult, MetricSpec, ProtocolScores, Scores

__all__ = [
    "Comparison",
    "Difference",
    "ImageMetric",
    "MetricResult",
    "MetricSpec",
    "Protocol",
    "ProtocolScores",
    "Scorer",
    "Scores",
    "compare",
    "list_protocols",
    "make_protocols",
    "protocol",
    "protocol_names",
    "score",
]
