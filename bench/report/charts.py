"""The plots, as Altair charts: zoomed by the wheel, moved by dragging, with the numbers under the pointer.

Values are in the unit that is shown. Names come from submissions: they are data or the text of a title, and no other
part of a specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from bench.errors import MissingDependencyError
from bench.report.across import Across
from bench.report.palette import GREY, SERIES

HEIGHT = 420

WIDTH = 640
"""Of a chart in a file; on a page, a chart is as wide as there is room."""

NARROW = {"columns": alt.ExprRef("width < 620 ? 1 : 2"), "labelLimit": alt.ExprRef("clamp(width - 50, 120, 300)")}
"""Of a legend, by the width of its chart: on a telephone names stand one below another, and are cut where it ends."""

LEGEND = alt.Legend(title=None, orient="bottom", symbolOpacity=1, **NARROW)
SHAPES = alt.Legend(title=None, orient="top", symbolFillColor=GREY, symbolStrokeColor=GREY, **NARROW)


def picture(chart: Any, form: str) -> bytes:
    """A chart as a file: ``svg`` or ``png``.

    Raises:
        MissingDependencyError: the package that draws it is not installed.
    """
    draw = _drawing()
    specification = chart.properties(background="white").to_dict()
    if "facet" not in specification:  # the parts of a facet have a width of their own
        specification.setdefault("width", WIDTH)
    if form == "svg":
        return str(draw.vegalite_to_svg(specification)).encode()
    return bytes(draw.vegalite_to_png(specification, scale=2))


def svg_as_png(svg: str, scale: float = 1.0) -> bytes:
    """A picture of lines as one of pixels.

    Raises:
        MissingDependencyError: the package that draws it is not installed.
    """
    return bytes(_drawing().svg_to_png(svg, scale=scale))


def _drawing() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise MissingDependencyError(
            "charts are drawn by vl-convert, which is not installed", "pip install '.[board]'"
        ) from None
    return vl_convert


OTHERS = "other methods"
"""Those that are drawn without a colour of their own, where there are more methods than colours."""

NUMBERED = 40
"""Points up to which each has the number of its run beside it."""


def colours(names: Sequence[str]) -> alt.Scale:
    """A colour for each name, in order."""
    return alt.Scale(domain=list(names), range=[SERIES[i % len(SERIES)] for i in range(len(names))])


def speed(frame: pd.DataFrame, metric: str, logarithmic: bool) -> alt.LayerChart:
    """Time against a number, with intervals on both axes and the Pareto front.

    Args:
        frame: ``run_id``, ``method``, ``badge``, ``x``, ``x_low``, ``x_high``, ``y``, ``y_low``, ``y_high``, ``front``.
        metric: title of the number, with its unit and direction.
        logarithmic: whether time is.
    """
    time = "time an image, median [ms] ↓"
    x_scale = alt.Scale(type="log", padding=30, nice=False) if logarithmic else alt.Scale(zero=False, padding=20)
    y_scale = alt.Scale(zero=False, padding=20)
    x, y = alt.X("x:Q", title=time, scale=x_scale), alt.Y("y:Q", title=metric, scale=y_scale)
    frame, names = _told_apart(frame)
    colour = alt.Color("series:N", scale=colours(names), legend=LEGEND)
    picked = alt.selection_point(name="run", fields=["run_id"])
    base = alt.Chart(frame)
    across_x = base.mark_rule(opacity=0.6).encode(
        x=alt.X("x_low:Q", title=time, scale=x_scale), x2="x_high:Q", y=y, color=colour
    )
    across_y = base.mark_rule(opacity=0.6).encode(
        x=x, y=alt.Y("y_low:Q", title=metric, scale=y_scale), y2="y_high:Q", color=colour
    )
    front = (
        alt.Chart(frame[frame["front"]])
        .mark_line(color=GREY, strokeDash=[4, 3], interpolate="step-after")
        .encode(x=x, y=y)
    )
    points = (
        base.mark_point(size=110, filled=True, opacity=1)
        .encode(
            x=x,
            y=y,
            color=colour,
            shape=alt.Shape("badge:N", legend=SHAPES if frame["badge"].nunique() > 1 else None),
            tooltip=[
                alt.Tooltip("method:N"),
                alt.Tooltip("run_id:Q", title="run"),
                alt.Tooltip("x:Q", title="ms an image", format=".3~g"),
                alt.Tooltip("y:Q", title=metric, format=".1f"),
                alt.Tooltip("badge:N", title="badges"),
            ],
        )
        .add_params(picked)
    )
    layers = [front, across_x, across_y, points]
    if len(frame) <= NUMBERED:
        layers.append(base.mark_text(align="left", dx=8, dy=-8, color=GREY).encode(x=x, y=y, text="run_id:N"))
    return alt.layer(*layers).properties(height=HEIGHT).interactive()


def _told_apart(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The points with a column ``series``, their method or :data:`OTHERS`, and every series in order.

    Of more methods than there are colours those on the Pareto front go before, then those that come first.
    """
    methods = list(dict.fromkeys([*frame.loc[frame["front"], "method"], *frame["method"]]))
    if len(methods) <= len(SERIES):
        return frame.assign(series=frame["method"]), sorted(methods)
    chosen = methods[: len(SERIES) - 1]
    return frame.assign(series=frame["method"].where(frame["method"].isin(chosen), OTHERS)), [*chosen, OTHERS]


def curves(frame: pd.DataFrame, names: Sequence[str]) -> alt.FacetChart:
    """F1 and TP / (TP + FP + FN) over IoU: ``run``, ``iou``, ``measure``, ``value``, ``low``, ``high`` in percent."""
    both = alt.layer(
        *_curve(names, alt.Legend(title=None, orient="bottom", columns=2, labelLimit=300, symbolOpacity=1))
    )
    return both.properties(height=260, width=330).facet(facet=alt.Facet("measure:N", title=None), columns=2, data=frame)


def curve(frame: pd.DataFrame, names: Sequence[str], measure: str) -> alt.LayerChart:
    """One of :func:`curves`, as wide as there is room."""
    layers = _curve(names, LEGEND)
    return alt.layer(*layers, data=frame[frame["measure"] == measure]).properties(height=HEIGHT, title=measure)


def _curve(names: Sequence[str], legend: alt.Legend) -> list[Any]:
    """Bands, lines and points of one measure."""
    x = alt.X("iou:Q", title="IoU threshold", scale=alt.Scale(domain=[0.5, 0.95], nice=False))
    y = alt.Y("value:Q", title="%", scale=alt.Scale(domain=[0, 100]))
    colour = alt.Color("run:N", scale=colours(names), legend=legend)
    band = alt.Chart().mark_area(opacity=0.2).encode(x=x, y=alt.Y("low:Q", title="%"), y2="high:Q", color=colour)
    line = alt.Chart().mark_line().encode(x=x, y=y, color=colour)
    points = (
        alt.Chart()
        .mark_point(filled=True, size=50, opacity=1)
        .encode(
            x=x,
            y=y,
            color=colour,
            shape=_shapes(names, legend),
            tooltip=[
                "run:N",
                "iou:Q",
                alt.Tooltip("value:Q", format=".1f"),
                alt.Tooltip("low:Q", format=".1f"),
                alt.Tooltip("high:Q", format=".1f"),
            ],
        )
    )
    return [band, line, points]


def _shapes(names: Sequence[str], legend: alt.Legend = LEGEND) -> alt.Shape:
    """A shape for each run, for whoever sees no colours; in one legend with them."""
    return alt.Shape("run:N", scale=alt.Scale(domain=list(names)), legend=legend)


def scatter(frame: pd.DataFrame, first: str, second: str, title: str) -> alt.LayerChart:
    """One run's value against another's, a point an image.

    Args:
        frame: ``name``, ``a``, ``b``, ``cells``.
        first: title of the axis of ``a``, with its unit.
        second: of ``b``.
        title: of the whole.
    """
    low = float(frame[["a", "b"]].min().min())
    high = float(frame[["a", "b"]].max().max())
    margin = 0.03 * (high - low or 1.0)
    scale = alt.Scale(domain=[low - margin, high + margin], nice=False)
    diagonal = (
        alt.Chart(pd.DataFrame({"a": [low - margin, high + margin], "b": [low - margin, high + margin]}))
        .mark_line(color=GREY, strokeDash=[4, 3])
        .encode(x=alt.X("a:Q", scale=scale), y=alt.Y("b:Q", scale=scale))
    )
    picked = alt.selection_point(name="picture", fields=["name"])
    points = (
        alt.Chart(frame)
        .mark_circle(opacity=0.75)
        .encode(
            x=alt.X("b:Q", title=second, scale=scale),
            y=alt.Y("a:Q", title=first, scale=scale),
            size=alt.Size("cells:Q", title="cells", scale=alt.Scale(range=[30, 300]), legend=None),
            color=alt.condition("datum.a >= datum.b", alt.value(SERIES[0]), alt.value(SERIES[1])),
            tooltip=["name:N", alt.Tooltip("a:Q", format=".1f"), alt.Tooltip("b:Q", format=".1f"), "cells:Q"],
        )
        .add_params(picked)
    )
    return alt.layer(diagonal, points).properties(height=HEIGHT, title=title).interactive()


def differences(frame: pd.DataFrame, unit: str) -> alt.LayerChart:
    """Paired differences with their intervals: ``pair``, ``difference``, ``low``, ``high``, ``distinct``."""
    base = alt.Chart(frame).encode(y=alt.Y("pair:N", title=None, sort=None, axis=alt.Axis(labelLimit=420)))
    colour = alt.condition("datum.distinct", alt.value(SERIES[5]), alt.value(GREY))
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(strokeDash=[4, 3]).encode(x="zero:Q")
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=f"difference [{unit}]"), x2="high:Q", color=colour
    )
    points = base.mark_point(size=90, filled=True, opacity=1).encode(
        x="difference:Q",
        color=colour,
        tooltip=[
            "pair:N",
            alt.Tooltip("difference:Q", format="+.2f"),
            alt.Tooltip("low:Q", format="+.2f"),
            alt.Tooltip("high:Q", format="+.2f"),
            alt.Tooltip("p_holm:Q", title="p (Holm)", format=".3g"),
        ],
    )
    return alt.layer(zero, bars, points).properties(height=alt.Step(32))


def by_size(frame: pd.DataFrame, names: Sequence[str]) -> alt.LayerChart:
    """Share of cells found, by area: ``run``, ``size`` (text), ``part``, ``value``, ``low``, ``high``, ``cells``."""
    x = alt.X("size:N", title="area of the cell [pixels]", sort=alt.SortField("part"), axis=alt.Axis(labelAngle=0))
    offset = alt.XOffset("run:N", sort=list(names))
    colour = alt.Color("run:N", scale=colours(names), legend=LEGEND)
    base = alt.Chart(frame)
    bars = base.mark_rule(strokeWidth=2).encode(
        x=x,
        xOffset=offset,
        y=alt.Y("low:Q", title="found [%]", scale=alt.Scale(domain=[0, 100])),
        y2="high:Q",
        color=colour,
    )
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=x,
        xOffset=offset,
        y=alt.Y("value:Q", scale=alt.Scale(domain=[0, 100])),
        color=colour,
        shape=_shapes(names),
        tooltip=["run:N", "size:N", alt.Tooltip("value:Q", format=".1f"), "cells:Q"],
    )
    return alt.layer(bars, points).properties(height=340)


def by_density(frame: pd.DataFrame, names: Sequence[str]) -> alt.LayerChart:
    """F1 of each image beside its number of cells: ``run``, ``name``, ``cells``, ``value``."""
    colour = alt.Color("run:N", scale=colours(names), legend=LEGEND)
    x = alt.X("cells:Q", title="cells in the image")
    y = alt.Y("value:Q", title="F1 [%]", scale=alt.Scale(domain=[0, 100]))
    points = (
        alt.Chart(frame)
        .mark_point(filled=True, opacity=0.6, size=60)
        .encode(
            x=x,
            y=y,
            color=colour,
            shape=_shapes(names),
            tooltip=["run:N", "name:N", "cells:Q", alt.Tooltip("value:Q", format=".1f")],
        )
    )
    return alt.layer(points).properties(height=340).interactive()


def wins(frame: pd.DataFrame) -> alt.Chart:
    """Images won, equal and lost: ``pair``, ``outcome``, ``images``, ``order``."""
    return (
        alt.Chart(frame)
        .mark_bar()
        .encode(
            x=alt.X("images:Q", title="images", stack="zero"),
            y=alt.Y("pair:N", title=None, sort=None, axis=alt.Axis(labelLimit=420)),
            color=alt.Color(
                "outcome:N",
                scale=alt.Scale(domain=["better", "equal", "worse"], range=[SERIES[0], GREY, SERIES[1]]),
                legend=alt.Legend(title="the first is", orient="bottom"),
            ),
            order="order:Q",
            tooltip=["pair:N", "outcome:N", "images:Q"],
        )
        .properties(height=alt.Step(32))
    )


def training(frame: pd.DataFrame) -> alt.Chart:
    """Losses over steps: ``step``, ``name``, ``value``."""
    names = sorted(frame["name"].unique())
    legend = alt.Legend(title=None, orient="bottom")
    return (
        alt.Chart(frame)
        .mark_line()
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("value:Q", title="loss", scale=alt.Scale(zero=False)),
            color=alt.Color("name:N", scale=colours(names), legend=legend),
            strokeDash=alt.StrokeDash("name:N", scale=alt.Scale(domain=names), legend=legend),
            tooltip=["name:N", "step:Q", alt.Tooltip("value:Q", format=".4~g")],
        )
        .properties(height=340)
        .interactive()
    )


def critical_difference(found: Across, titles: Mapping[str, str] | None = None) -> alt.LayerChart:
    """Demšar's diagram: mean ranks on a line, methods that cannot be told apart joined by a bar.

    Args:
        found: the methods with their ranks.
        titles: method to how it is written; as it is, where there is none.
    """
    written = titles or {}
    rows = pd.DataFrame(
        [(written.get(s.method, s.method), s.mean_rank, place) for place, s in enumerate(found.standings)],
        columns=["method", "rank", "place"],
    )
    bars = pd.DataFrame(
        [
            (min(rank), max(rank), -0.8 - 0.5 * i)
            for i, group in enumerate(found.groups)
            if (rank := [s.mean_rank for s in found.standings if s.method in group])
        ],
        columns=["from", "to", "place"],
    )
    scale = alt.Scale(domain=[1, max(len(rows), 2) + 0.5], nice=False, padding=12)
    x = alt.X("rank:Q", title="mean rank (1 is best)", scale=scale, axis=alt.Axis(orient="top", tickMinStep=1))
    y = alt.Y("place:Q", axis=None, scale=alt.Scale(reverse=True, zero=False))
    points = (
        alt.Chart(rows)
        .mark_point(filled=True, size=90, opacity=1, color=SERIES[5])
        .encode(x=x, y=y, tooltip=["method:N", alt.Tooltip("rank:Q", format=".2f")])
    )
    names = alt.Chart(rows).mark_text(align="left", dx=9, fontSize=13, color=GREY).encode(x=x, y=y, text="method:N")
    layers: list[Any] = [points, names]
    if len(bars):
        layers.append(
            alt.Chart(bars)
            .mark_rule(strokeWidth=5, color=SERIES[1], strokeCap="round")
            .encode(x=alt.X("from:Q", scale=scale, title=None), x2="to:Q", y=y)
        )
    return alt.layer(*layers).properties(height=90 + 30 * len(rows) + 22 * len(bars))


def reported(frame: pd.DataFrame, unit: str) -> alt.LayerChart:
    """Measured against reported: ``method``, ``number``, ``reported``, ``measured``, ``comparable``."""
    both = frame[["reported", "measured"]]
    low, high = float(both.min().min()), float(both.max().max())
    line = pd.DataFrame({"reported": [low, high], "measured": [low, high]})
    diagonal = alt.Chart(line).mark_line(color=GREY, strokeDash=[4, 3]).encode(x="reported:Q", y="measured:Q")
    points = (
        alt.Chart(frame)
        .mark_point(filled=True, size=90, opacity=1)
        .encode(
            x=alt.X("reported:Q", title=f"reported [{unit}]"),
            y=alt.Y("measured:Q", title=f"measured here [{unit}]"),
            color=alt.Color("method:N", legend=alt.Legend(title=None, orient="bottom")),
            shape=alt.Shape(
                "comparable:N",
                scale=alt.Scale(domain=["comparable", "not comparable"], range=["circle", "cross"]),
                legend=alt.Legend(title=None, orient="bottom"),
            ),
            tooltip=[
                "method:N",
                "number:N",
                alt.Tooltip("reported:Q", format=".1f"),
                alt.Tooltip("measured:Q", format=".1f"),
            ],
        )
    )
    return alt.layer(diagonal, points).properties(height=HEIGHT).interactive()
