"""The picture of an image page: the image with outlines by verdict, panel beside panel, zoomed together."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.instances import Instances
from bench.metrics.matching import Match
from bench.metrics.verdicts import Verdicts
from bench.report.charts import svg_as_png
from bench.report.outlines import outline_paths
from leaderboard.theme import VERDICTS

HERE = Path(__file__).parent

ZOOM = "zoom"
"""Name in the address under which the viewer keeps left, top and size of what it shows, as shares of the image."""

SHARP = 1200
"""Pixels that a panel of a file is wide at least, unless that enlarges it more than four times."""

LETTERS = 45
"""Widths of a capital letter that go into the caption of a panel of a file."""

PRECISE = 1_500_000
"""Pixels of an image that is sent as PNG; larger ones go as JPEG, which is some five times smaller."""


def stretched(image: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """An image with the grey levels of two percentiles made black and white: (H, W) or (H, W, 3) uint8.

    Args:
        image: (H, W) or (H, W, C), uint8 or uint16; alpha is dropped.
        low: percentile that becomes black.
        high: percentile that becomes white.
    """
    values = image
    if values.ndim == 3:
        values = values[..., 0] if values.shape[2] < 3 else values[..., :3]
    if values.dtype == np.uint8 and (low, high) == (0.0, 100.0):
        return np.ascontiguousarray(values)
    histogram = np.bincount(values.ravel(), minlength=2)
    share = np.cumsum(histogram) * (100.0 / values.size)
    black = int(np.searchsorted(share, low, side="right")) if low > 0 else int(np.flatnonzero(histogram)[0])
    white = int(np.searchsorted(share, high)) if high < 100 else len(histogram) - 1
    if white <= black:
        white = black + 1
    table = np.clip((np.arange(len(histogram)) - black) * (255.0 / (white - black)), 0, 255)
    return np.rint(table).astype(np.uint8)[values]


def as_url(pixels: NDArray[np.uint8]) -> str:
    """A picture as a ``data:`` address."""
    out = io.BytesIO()
    picture = Image.fromarray(pixels)
    if pixels.shape[0] * pixels.shape[1] <= PRECISE:
        picture.save(out, "PNG", compress_level=1)
        kind = "png"
    else:
        picture.save(out, "JPEG", quality=92)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def swatch(verdict: str) -> str:
    """A piece of a verdict's outline for a legend, as a ``data:`` address: Streamlit lets no SVG into a page."""
    colour, dashes, _ = VERDICTS[verdict]
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="16"><rect width="30" height="16" fill="#444"/>'
        f'<rect x="2" y="2" width="26" height="12" fill="none" stroke="{colour}" stroke-width="2.5" '
        f'stroke-dasharray="{dashes}"/></svg>'
    )
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')}"


def truth_panel(truth: Instances) -> dict[str, Any]:
    """The annotation alone."""
    flat = Match(truth, Instances.empty(*truth.shape)).flat()
    paths = outline_paths(flat.truth_labels.T, flat.n_truth)
    shown = [
        (path, f"cell {i}, {area} pixels")
        for i, (path, area) in enumerate(zip(paths, flat.truth_areas, strict=True), 1)
    ]
    return {
        "title": "annotation",
        "counts": f"{flat.n_truth} cells",
        "layers": [_layer("truth", shown)],
    }


def run_panel(title: str, truth: Instances, found: Instances, threshold: float) -> dict[str, Any]:
    """What a run found, by verdict at IoU > ``threshold``; dashed, the cells that it did not find."""
    match = Match(truth, found)
    flat, verdicts = match.flat(), Verdicts.of(match, threshold)
    best = verdicts.best
    layers: dict[str, list[tuple[str, str]]] = {name: [] for name in VERDICTS}
    sides: tuple[tuple[Any, Any, Any, Sequence[str], str], ...] = (
        (flat.truth_labels, best.truth_iou, best.truth_areas, verdicts.truth, "cell"),
        (flat.prediction_labels, best.prediction_iou, best.prediction_areas, verdicts.prediction, "prediction"),
    )
    for labels, ious, areas, verdict, what in sides:
        drawn = np.array([False, *(name != "found" for name in verdict)])
        paths = outline_paths(np.where(drawn[labels.T], labels.T, 0), len(verdict))
        for number, (path, name) in enumerate(zip(paths, verdict, strict=True)):
            if name != "found":
                label = f"{VERDICTS[name][2]}: {what} {number + 1}, {areas[number]} pixels, best IoU {ious[number]:.2f}"
                layers[name].append((path, label))
    tp, fp, fn = best.counts(threshold)
    kinds = Counter([*verdicts.truth, *verdicts.prediction])
    more = [f"{kinds[kind]} {words}" for kind, words in (("merges", "merges"), ("split", "split cells")) if kinds[kind]]
    return {
        "title": title,
        "counts": ", ".join([f"{tp} right, {fp} false, {fn} not found", *more]),
        "layers": [_layer(name, paths) for name, paths in layers.items() if paths],
    }


def _layer(verdict: str, paths: Sequence[tuple[str, str]]) -> dict[str, Any]:
    colour, dashes, _ = VERDICTS[verdict]
    return {
        "verdict": verdict,
        "colour": colour,
        "dashes": dashes,
        "stroke": 1.6 if dashes else 1.4,
        "paths": [list(p) for p in paths],
    }


def content(name: str, pixels: NDArray[np.uint8], panels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything that the viewer shows, as plain data."""
    height, width = pixels.shape[:2]
    return {"name": name, "width": width, "height": height, "image": as_url(pixels), "panels": list(panels)}


@cache
def _component() -> Any:
    from streamlit.components.v2 import component

    return component(
        "cellseg_bench_viewer",
        html='<div class="viewer"></div>',
        css=(HERE / "viewer.css").read_text(encoding="utf-8"),
        js=(HERE / "viewer.js").read_text(encoding="utf-8"),
    )


def show(shown: dict[str, Any], key: str) -> None:
    """Draw :func:`content`."""
    _component()(data=shown, key=key)


def picture(shown: Mapping[str, Any], panels: Sequence[Mapping[str, Any]], form: str) -> bytes:
    """Panels side by side as a file, ``svg`` or ``png``.

    Raises:
        MissingDependencyError: what draws PNG files is not installed.
    """
    svg = as_svg(shown, panels)
    return svg.encode() if form == "svg" else svg_as_png(svg)


def as_svg(shown: Mapping[str, Any], panels: Sequence[Mapping[str, Any]]) -> str:
    """Panels side by side with their captions and the legend, as an SVG picture that stands by itself."""
    width, height = shown["width"], shown["height"]
    size = width / LETTERS
    line, gap = 1.4 * size, size
    head = 2.4 * line
    enlarged = max(1.0, min(4.0, SHARP / width))
    used = list(dict.fromkeys(layer["verdict"] for panel in panels for layer in panel["layers"]))
    whole = len(panels) * width + (len(panels) - 1) * gap
    columns = max(1, min(len(used), int(whole // (16 * size))))
    full = head + height + line * (0.6 + -(-len(used) // columns))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole:g} {full:g}" width="{enlarged * whole:g}" '
        f'height="{enlarged * full:g}" font-family="sans-serif" font-size="{size:g}">',
        f"<title>{escape(shown['name'])}</title>",
        f'<rect width="{whole:g}" height="{full:g}" fill="#fff"/>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({number * (width + gap):g} 0)">')
        parts.append(f'<text y="{line:g}" font-weight="bold">{escape(_cut(panel["title"]))}</text>')
        parts.append(f'<text y="{2 * line:g}">{escape(_cut(panel["counts"]))}</text>')
        parts.append(f'<g transform="translate(0 {head:g})">')
        source = quoteattr(shown["image"])
        parts.append(f'<image href={source} width="{width}" height="{height}" image-rendering="optimizeSpeed"/>')
        for layer in panel["layers"]:
            stroke = layer["stroke"] * max(1.0, width / 700)
            dashes = " ".join(f"{float(d) * stroke:g}" for d in layer["dashes"].split())
            parts.append(
                f'<g fill="none" stroke="{layer["colour"]}" stroke-width="{stroke:g}"'
                + (f' stroke-dasharray="{dashes}">' if dashes else ">")
            )
            parts += [
                f"<path d={quoteattr(path)}><title>{escape(label)}</title></path>" for path, label in layer["paths"]
            ]
            parts.append("</g>")
        parts.append("</g></g>")
    for number, verdict in enumerate(used):
        colour, dashes, meaning = VERDICTS[verdict]
        x, y = (number % columns) * whole / columns, head + height + line * (0.9 + number // columns)
        pattern = " ".join(f"{float(d) * size / 12:g}" for d in dashes.split())
        dashed = f' stroke-dasharray="{pattern}"' if dashes else ""
        parts.append(
            f'<rect x="{x + 1:g}" y="{y - 0.75 * size:g}" width="{size:g}" height="{0.8 * size:g}" fill="#444" '
            f'stroke="{colour}" stroke-width="{size / 5:g}"{dashed}/>'
            f'<text x="{x + 1.5 * size:g}" y="{y:g}">{escape(meaning)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _cut(text: str) -> str:
    """A caption as long as its panel is wide."""
    longest = int(1.6 * LETTERS)
    return text if len(text) <= longest else text[: longest - 1] + "…"
