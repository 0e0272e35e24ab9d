"""Speed against accuracy: the points of a board's runs and their Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.report.numbers import shown_unit

TIME = "timing/latency_median"


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a run that has both a time and the ranking number, in the units that are shown.

    Args:
        frame: of a board, with its ``attrs``; of one machine, as times are compared within one only.

    Returns:
        ``run_id``, ``method``, ``badge``, ``x`` (milliseconds an image, median), ``x_low``, ``x_high``, ``y``,
        ``y_low``, ``y_high`` and ``front``, whether no other run is both faster and better.
    """
    about = frame.attrs
    column = f"{about['protocol']}/{about['metric']}"
    frame = frame[timed(frame)]
    definition = about["columns"].get(column, {"unit": "", "higher_is_better": True})
    factor, _ = shown_unit(str(definition["unit"]))
    x = frame["latency_median_ms"].to_numpy(dtype=float)
    ends = {
        end: (frame[f"{TIME}:{end}"] if f"{TIME}:{end}" in frame else frame["latency_median_ms"])
        .astype(float)
        .fillna(frame["latency_median_ms"].astype(float))
        .to_numpy()
        for end in ("low", "high")
    }
    value = frame[column].to_numpy(dtype=float) * factor
    sides = {
        end: (frame[f"{column}:{end}"].astype(float) * factor).fillna(pd.Series(value, frame.index)).to_numpy()
        for end in ("low", "high")
    }
    found = pd.DataFrame(
        {
            "run_id": frame["run_id"].to_numpy(),
            "method": frame["title"].to_numpy(),
            "badge": [badges if isinstance(badges, str) else ", ".join(badges) for badges in frame["badges"]],
            "x": x,
            "x_low": ends["low"],
            "x_high": ends["high"],
            "y": value,
            "y_low": sides["low"],
            "y_high": sides["high"],
        }
    )
    front = set(pareto(x.tolist(), value.tolist(), bool(definition["higher_is_better"])))
    found["front"] = [i in front for i in range(len(found))]
    return found


def timed(frame: pd.DataFrame) -> pd.Series[bool]:
    """Which rows of a board have both a time and the ranking number."""
    about = frame.attrs
    column = f"{about['protocol']}/{about['metric']}"
    if about["metric"] is None:
        return pd.Series(False, index=frame.index)
    return frame["latency_median_ms"].notna() & frame[column].notna() & (frame["latency_median_ms"] > 0)


def axis_title(frame: pd.DataFrame) -> str:
    """The ranking number with its unit and direction."""
    about = frame.attrs
    definition = about["columns"][f"{about['protocol']}/{about['metric']}"]
    arrow = "↑" if definition["higher_is_better"] else "↓"
    return f"{about['protocol']} {about['metric']} [{shown_unit(definition['unit'])[1]}] {arrow}"


def pareto(x: Sequence[float], y: Sequence[float], higher_is_better: bool) -> list[int]:
    """Indices of the points that no other beats on both axes (x: less is better), from left to right."""
    sign = 1.0 if higher_is_better else -1.0
    best, front = -np.inf, []
    for i in sorted(range(len(x)), key=lambda i: (x[i], -sign * y[i])):
        if sign * y[i] > best:
            best = sign * y[i]
            front.append(i)
    return front
