"""A comparison of runs, for people."""

from __future__ import annotations

from bench.metrics import Comparison
from bench.metrics.compare import MIN_IMAGES
from bench.report.numbers import quantity
from bench.report.tables import simple, to_text

FEW_IMAGES = 10
FEW = "so few images are a weak ground for an interval or a p"
"""Said of a comparison on fewer than :data:`FEW_IMAGES` images."""


def said_of_few(images: int) -> str | None:
    """What a reader must know of a comparison on so few images; None where they are enough."""
    if images < MIN_IMAGES:
        return f"no interval and no p on fewer than {MIN_IMAGES} images"
    return FEW if images < FEW_IMAGES else None


def comparison_text(comparison: Comparison) -> str:
    """The runs with their ranks, then every difference with its interval and p."""
    unit = comparison.unit
    sign = -1 if comparison.higher_is_better else 1
    places = sorted(comparison.values, key=lambda name: sign * (comparison.values[name] or 0.0))
    better = "higher" if comparison.higher_is_better else "lower"
    ranks = to_text(
        simple(
            ("rank", "run", "value"),
            sorted(
                ((comparison.ranks[name], name, quantity(value, unit)) for name, value in comparison.values.items()),
                key=lambda row: (row[0] is None, row[0] or 0, places.index(row[1])),
            ),
            title=f"{comparison.protocol} {comparison.metric} ({better} is better) on {comparison.n_images} images; "
            "runs that share a rank cannot be told apart",
            notes=(few,) if (few := said_of_few(comparison.n_images)) else (),
        )
    )
    rows = [
        (
            d.first,
            d.second,
            _points(d.difference, unit),
            None if d.low is None or d.high is None else f"{_points(d.low, unit)} to {_points(d.high, unit)}",
            d.p,
            d.p_holm,
            "yes" if d.distinct else "no",
        )
        for d in comparison.differences
    ]
    differences = to_text(
        simple(("first", "second", "difference", "95 % interval", "p", "p (Holm)", "told apart"), rows)
    )
    return f"{ranks}\n\n{differences}"


def _points(difference: float | None, unit: str) -> str | None:
    """A difference: that of two percentages is so many percentage points, not so many per cent of one of them."""
    text = quantity(difference, unit)
    return None if text is None else text.replace(" %", " points")
