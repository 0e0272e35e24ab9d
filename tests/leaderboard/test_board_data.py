"""What the pages show, by hand, without Streamlit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.metrics import score
from bench.metrics.matching import Match
from bench.metrics.verdicts import BestMatches
from bench.report import charts
from bench.report.palette import SERIES
from bench.report.speed import pareto
from bench.store import open_store
from leaderboard import data, viewer
from leaderboard.theme import VERDICTS


def test_pareto_by_hand() -> None:
    x, y = [1.0, 2.0, 2.0, 3.0, 4.0], [0.5, 0.7, 0.6, 0.7, 0.9]
    assert pareto(x, y, True) == [0, 1, 4]
    assert pareto(x, [-v for v in y], False) == [0, 1, 4]
    assert pareto([], [], True) == []


def test_paired_mean_by_hand() -> None:
    table = pd.DataFrame({"image": list("abcd"), "group": [None] * 4, "difference": [0.1, 0.3, 0.0, float("nan")]})
    found = data.paired_mean(table, True)
    assert (found.images, found.wins, found.losses, found.ties) == (3, 2, 0, 1)
    assert found.difference == pytest.approx(0.4 / 3)
    assert 0.0 <= found.low < found.difference < found.high <= 0.3
    turned = data.paired_mean(table, False)
    assert (turned.wins, turned.losses) == (0, 2)
    assert data.paired_mean(table[3:], True).difference is None
    alone = data.paired_mean(table[:1], True)
    assert (alone.difference, alone.low, alone.high) == (0.1, None, None), "one image says nothing of the spread"


@pytest.mark.parametrize(
    ("order", "higher", "expected"),
    [
        ("worst", True, "bcaz"),
        ("best", True, "acbz"),
        ("worst", False, "acbz"),
        ("difference", True, "bzac"),
        ("name", True, "abcz"),
    ],
)
def test_orders(order: str, higher: bool, expected: str) -> None:
    nan = float("nan")
    table = pd.DataFrame({"image": list("zabc"), "a": [nan, 0.9, 0.1, 0.5], "difference": [0.3, -0.2, -0.4, nan]})
    assert "".join(data.ordered(table, order, higher)["image"]) == expected


def evidence(pairs: list[tuple[np.ndarray, np.ndarray]]) -> data.Evidence:
    names = tuple(str(i) for i in range(len(pairs)))
    scores = score([t for t, _ in pairs], [p for _, p in pairs], ["kaggle"], intervals=False)
    return data.Evidence(scores, names, names, tuple(BestMatches.of(Match(t, p)) for t, p in pairs))


def test_curves_and_sizes_by_hand() -> None:
    truth = np.zeros((10, 30), np.uint16)
    truth[:, :5], truth[:, 10:30] = 1, 2  # 50 and 200 pixels
    found = np.zeros_like(truth)
    found[:, :4], found[:, 10:30] = 1, 2  # IoU 0.8 and 1
    curve = data.curves({"r": evidence([(truth, found), (truth, found)])})
    at = curve[curve["measure"] == "F1"].set_index("iou")["value"]
    assert at[0.5] == at[0.75] == 1.0
    assert at[0.8] == at[0.95] == pytest.approx(2 * 2 / (2 * 2 + 2 + 2)), "an IoU of 0.8 does not exceed 0.8"
    other = curve[curve["measure"] != "F1"].set_index("iou")["value"]
    assert other[0.9] == pytest.approx(2 / 6)
    sizes = data.by_size({"r": evidence([(truth, found)] * 3)}, 0.85, parts=2)
    assert sizes[["cells", "value"]].values.tolist() == [[3, 0.0], [3, 1.0]]
    density = data.by_density({"r": evidence([(truth, found), (np.zeros_like(truth), found)])}, 0.5)
    assert density[["cells", "value"]].values.tolist() == [[2, 1.0], [0, 0.0]]


def test_nothing_to_count() -> None:
    none = np.zeros((4, 4), np.uint16)
    empty = {"r": evidence([(none, none)])}
    assert data.curves(empty)["value"].isna().all()
    assert data.by_size(empty, 0.5).empty
    assert data.by_size({}, 0.5).empty


def test_across_data_sets_by_the_store(ranked: Path) -> None:
    with open_store(ranked) as store:
        overview = data.overview(store, "paper", synthetic=False)
        assert overview.methods == ["a", "b", "c"], "controls are left out"
        (label,) = overview.values
        assert (label, overview.measure[label], overview.better[label]) == ("tiny (test)", "voc AP@0.5", True)
        assert data.overview(store, "smoke", synthetic=False).methods == []
        assert data.overview(store, "paper", synthetic=True).methods == []


def test_what_a_later_run_has_replaced_is_not_compared_across_data_sets(ranked: Path) -> None:
    """The last run of "a" is said to know the data: the earlier one is no longer its value, and it is named."""
    with open_store(ranked) as store:
        values = store.ranking_values()
        bundle = store.bundle(int(values.loc[values["method"] == "a", "run_id"].iloc[0]))
        arguments = {**bundle.run.arguments, "trained_on": ["tiny"]}
        again = dataclasses.replace(bundle, run=dataclasses.replace(bundle.run, key="again", arguments=arguments))
        store.add(again)
        overview = data.overview(store, "paper", synthetic=False)
        assert overview.methods == ["b", "c"]
        assert overview.left_out == {"tiny (test)": ["a"]}
        seed = dataclasses.replace(bundle.run, key="seed", seed=bundle.run.seed + 1)
        run_id = store.add(dataclasses.replace(bundle, run=seed))
        overview = data.overview(store, "paper", synthetic=False)
        assert overview.runs["a"] == [run_id]
        assert overview.left_out == {"tiny (test)": []}, "it has a value"


def test_grey_levels() -> None:
    image = np.arange(1000, dtype=np.uint16).reshape(20, 50)
    whole = viewer.stretched(image, 0.0, 100.0)
    assert (whole.min(), whole.max(), whole.dtype) == (0, 255, np.uint8)
    cut = viewer.stretched(image, 10.0, 90.0)
    assert (cut == 0).mean() == pytest.approx(0.1, abs=0.01)
    assert (cut == 255).mean() == pytest.approx(0.1, abs=0.01)
    plain = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(viewer.stretched(plain, 0.0, 100.0), plain), "8 bit are left as they are"
    for constant in (np.zeros((4, 4), np.uint16), np.full((4, 4), 65535, np.uint16), np.full((4, 4, 3), 7, np.uint8)):
        assert viewer.stretched(constant, 0.5, 99.8).shape == constant.shape
    assert viewer.stretched(np.zeros((4, 4, 4), np.uint8), 0.0, 100.0).shape == (4, 4, 3)
    assert viewer.stretched(np.zeros((4, 4, 2), np.uint8), 1.0, 99.0).shape == (4, 4)


def test_a_panel_and_its_picture() -> None:
    truth = np.zeros((8, 20), np.uint16)
    truth[1:5, 1:5], truth[1:5, 5:9], truth[1:5, 12:16] = 1, 2, 3
    found = np.zeros_like(truth)
    found[1:5, 1:9], found[6:8, 0:3] = 1, 2
    from bench.instances import Instances

    panel = viewer.run_panel('<b>"x" & y</b>', Instances.from_label_map(truth), Instances.from_label_map(found), 0.5)
    assert panel["counts"] == "0 right, 2 false, 3 not found, 1 merges"
    assert {layer["verdict"]: len(layer["paths"]) for layer in panel["layers"]} == {
        "false": 1, "merges": 1, "missed": 1, "merged": 2,
    }  # fmt: skip
    content = viewer.content("image", viewer.stretched(np.zeros((8, 20), np.uint16), 0.5, 99.8), [panel])
    svg = viewer.as_svg(content, [viewer.truth_panel(Instances.from_label_map(truth)), panel])
    import xml.etree.ElementTree as ET

    root = ET.fromstring(svg)
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words[:4] == ["annotation", "3 cells", '<b>"x" & y</b>', "0 right, 2 false, 3 not found, 1 merges"]
    assert {"annotated cell", "missed cell", "false (false positive)"} <= set(words), "the legend"
    assert len(root.findall(".//{http://www.w3.org/2000/svg}path")) == 3 + 5


def test_a_picture_of_an_image_as_a_file() -> None:
    pytest.importorskip("vl_convert", reason="the board's extra is not installed")
    import io

    from PIL import Image

    from bench.instances import Instances

    labels = np.zeros((30, 40), np.uint16)
    labels[10:20, 10:20] = 1
    truth = Instances.from_label_map(labels)
    pixels = np.full((30, 40), 90, np.uint8)
    pixels[:, 30:] = 255
    content = viewer.content("image", pixels, [viewer.truth_panel(truth)])
    picture = Image.open(io.BytesIO(viewer.picture(content, content["panels"], "png"))).convert("RGB")
    seen = np.asarray(picture)
    assert seen.shape[1] == 4 * 40, "small images are enlarged, four times at most"
    grey = int((seen == 90).all(axis=2).sum())
    assert 0.8 * 16 * 30 * 30 < grey <= 16 * 30 * 30, "the image, but for its white part and the outline"
    assert viewer.picture(content, content["panels"], "svg").startswith(b"<svg")


def test_rows_in_order() -> None:
    frame = pd.DataFrame(
        {"a": [2.0, None, 3.0, 1.0], "name": ["b", "C", None, "a"], "badges": [["x"], ["w"], ["y"], ["x"]]}
    )
    frame.attrs = {"columns": {}}
    assert data.in_order(frame, "a", True)["a"].tolist()[:3] == [3, 2, 1]
    assert data.in_order(frame, "a", False)["a"].tolist()[:3] == [1, 2, 3]
    assert data.in_order(frame, "a", True, reverse=True)["a"].tolist()[:3] == [1, 2, 3]
    assert np.isnan(data.in_order(frame, "a", False, reverse=True)["a"].iloc[-1]), "no value, last either way"
    assert data.in_order(frame, "name", None)["name"].tolist()[:3] == ["a", "b", "C"]
    assert data.in_order(frame, "badges", None)["badges"].tolist()[0] == ["w"]
    assert data.in_order(frame, "a", None).attrs == frame.attrs


def test_verdicts_are_told_apart_without_colours() -> None:
    predicted, missed = ("right", "false", "merges", "piece"), ("missed", "merged", "split")
    dashes = {verdict: VERDICTS[verdict][1] for verdict in (*predicted, *missed)}
    assert len({dashes[verdict] for verdict in predicted}) == len(predicted)
    assert {dashes[verdict] for verdict in missed}.isdisjoint(dashes[verdict] for verdict in predicted)


def drawn(methods: int) -> pd.DataFrame:
    """Points as :func:`bench.report.speed.points` gives them, the best first; only the last is on the front."""
    names = [f"m{i:03d}" for i in range(methods)]
    number = [float(methods - i) for i in range(methods)]
    return pd.DataFrame(
        {"run_id": range(methods), "method": names, "badge": "measured"}
        | dict.fromkeys(("x", "x_low", "x_high", "y", "y_low", "y_high"), number)
        | {"front": [i == methods - 1 for i in range(methods)]}
    )


def test_many_methods_leave_room_for_their_points() -> None:
    """A legend of 300 names would be higher than the chart, and colours that come again tell nothing apart."""

    def legend(methods: int) -> list[str]:
        layers = charts.speed(drawn(methods), "AP", logarithmic=True).to_dict()["layer"]
        (colour,) = [layer["encoding"]["color"] for layer in layers if layer["mark"]["type"] == "point"]
        return colour["scale"]["domain"]

    assert legend(len(SERIES)) == [f"m{i:03d}" for i in range(len(SERIES))]
    many = legend(300)
    assert len(many) == len(SERIES)
    assert many[0] == "m299", "who is on the front has a colour of its own"
    assert many[1:3] == ["m000", "m001"], "then the best"
    assert many[-1] == charts.OTHERS


def test_few_points_have_their_numbers() -> None:
    def marks(methods: int) -> list[str]:
        return [layer["mark"]["type"] for layer in charts.speed(drawn(methods), "AP", True).to_dict()["layer"]]

    assert "text" in marks(charts.NUMBERED)
    assert "text" not in marks(charts.NUMBERED + 1)
