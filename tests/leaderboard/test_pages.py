"""Every page by its logic: what it shows, what it does with an address, with nothing, and with hostile names."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from bench.data.reported import reported_results
from bench.records import ReportedResultRecord
from bench.report.comparisons import said_of_few
from bench.store import open_store
from leaderboard.app import PAGES

HOSTILE = "<script>alert(1)</script> [x](javascript:alert(2)) :red[y] $z$ `w`"
PATHS = "../../../../etc/passwd"


@pytest.fixture(params=list(PAGES))
def page(request: pytest.FixtureRequest) -> str:
    return request.param


# -- empty, one run, not a database -----------------------------------------------------------------------


def test_without_a_database_it_says_what_to_type(opened, workplace: Path, page: str) -> None:
    at = opened(workplace / "bench.db", page)
    if page == "papers":
        assert at.title[0].value == "Reported against measured"
    else:
        assert at.title[0].value == "Nothing is stored yet"
        assert at.code[0].value.startswith("bench run -m truth,jitter,merge -d neural ")
        assert at.code[0].value.endswith("\nbench leaderboard"), "it is where commands look by themselves"
        assert at.code[1].value.startswith("bench demo-db")
    assert not (workplace / "bench.db").exists(), "looking makes no database"


def test_an_empty_database(opened, workplace: Path) -> None:
    open_store(workplace / "bench.db").close()
    assert opened(workplace / "bench.db").title[0].value == "Nothing is stored yet"


def test_what_to_type_names_the_database_that_is_looked_at(opened, texts, workplace: Path) -> None:
    at = opened(workplace / "my runs.db")
    assert "my runs.db" in texts(at)
    assert [line.count(" --db 'my runs.db'") for line in at.code[0].value.splitlines()] == [1, 1, 1]


def test_printed_numbers_need_no_run(opened, workplace: Path) -> None:
    missing, there = workplace / "none.db", workplace / "bench.db"
    open_store(there).close()
    for database in (missing, there):
        table = opened(database, "papers").dataframe[0].value
        assert {row.method for row in reported_results()} == set(table["method"])
        assert table["measured"].isna().all()


def test_a_file_that_is_no_database(opened, workplace: Path) -> None:
    (workplace / "notes.txt").write_text("hello, this is no database")
    at = opened(workplace / "notes.txt")
    assert "is no SQLite database" in at.warning[0].value


def test_one_run(opened, workplace: Path, page: str) -> None:
    from bench.engine import service

    service.run_all(["jitter"], "tiny")
    at = opened(workplace / "bench.db", page, data_root=workplace / "data")
    assert at.title


def test_every_page_with_several(opened, ranked: Path, page: str) -> None:
    before = ranked.read_bytes()
    at = opened(ranked, page, data_root=ranked.parent / "data")
    assert not at.warning
    assert ranked.read_bytes() == before, "a look changes nothing"


def test_a_failed_run_says_why(opened, ran: Path) -> None:
    with open_store(ran) as store:
        bundle = store.bundle(2)
        failed = dataclasses.replace(
            bundle.run,
            key="e" * 64,
            status="failed",
            failure_kind="out_of_memory",
            failure="it was full",
            complete=False,
        )
        run_id = store.add(dataclasses.replace(bundle, run=failed, results=(), image_results=(), timings=()))
    at = opened(ran, "run", run=run_id)
    assert "out of memory" in at.error[0].value
    assert "it was full" in at.error[0].value
    listed = opened(ran, "run", status="failed")
    assert list(listed.dataframe[0].value["run"]) == [run_id]


# -- the board --------------------------------------------------------------------------------------------


def test_the_board_ranks_what_may_rank(opened, ranked: Path) -> None:
    table = opened(ranked).dataframe[0].value
    ranks = {
        title: None if rank != rank else rank
        for title, rank in zip(table["title"], table["rank"].astype(float), strict=True)
    }
    assert {title for title, rank in ranks.items() if rank is not None} == {"A", "B", "C"}
    assert ranks["A"] == 1
    assert ranks["Truth (control)"] is None
    assert table.loc[table["title"] == "Truth (control)", "voc/AP@0.5"].item() == 100.0
    assert table.loc[table["title"] == "A", "latency_median_ms"].item() == 10.0
    assert table.loc[table["title"] == "A", "n_parameters"].item() == 1.5


def test_a_filter_and_a_link_that_opens_the_same(opened, ranked: Path) -> None:
    at = opened(ranked)
    at.text_input[0].set_value("measured run 6").run()
    assert list(at.dataframe[0].value["title"]) == ["B"]
    assert at.query_params["filter"] == "measured run 6"
    protocol = next(box for box in at.selectbox if box.label == "protocol")
    protocol.set_value("kaggle").run()
    address = dict(at.query_params)
    assert address["protocol"] == "kaggle"
    again = opened(ranked, **address)
    assert list(again.dataframe[0].value["title"]) == ["B"]
    assert "kaggle/mAP@.5:.95" in again.dataframe[0].value.columns


def test_of_what_is_by_default_only_what_may_change_is_in_the_address(opened, ranked: Path) -> None:
    address = dict(opened(ranked).query_params)
    assert set(address) == {"data", "split"}
    assert address["data"].startswith("tiny.")


LINKS = [
    (
        "board",
        {
            **{"protocol": "kaggle", "schedule": "paper", "filter": "measured", "sort": "latency_median_ms"},
            **{"reversed": "1", "column": ["seed", "latency_median_ms"], "ranks": "1", "superseded": "1"},
            "tick": ["5", "7"],
        },
    ),
    ("speed", {"protocol": "kaggle", "log": "0", "partial": "0"}),
    ("compare", {"run": ["5", "7", "6"], "number": "voc IoU@0.7", "pair": "5 and 6"}),
    ("compare", {"run": ["5", "7"], "part": "cells", "iou": "0.75"}),
    (
        "images",
        {
            **{"run": "6", "other": "5", "number": "voc IoU@0.7", "order": "name", "image": "IMAGE", "iou": "0.7"},
            **{"contrast": ["3", "88.5"], "truth": "0", "zoom": "0.1,0.2,0.5"},
        },
    ),
    ("datasets", {"schedule": "short", "synthetic": "1"}),
    ("papers", {"paper": "Yi et al. 2018", "data": "neural"}),
    ("run", {"run": "5", "part": "provenance"}),
    ("run", {"data": "tiny", "status": "ok", "superseded": "1"}),
]


@pytest.mark.parametrize(("page_name", "address"), LINKS)
def test_a_link_opens_the_same_view(opened, ranked: Path, page_name: str, address: dict) -> None:
    """What the address says is what every control says, and stays in the address."""
    if address.get("image") == "IMAGE":
        with open_store(ranked) as store:
            address = {**address, "image": store.image_values([6], "voc", "IoU@0.7")["image"].iloc[2]}
    at = opened(ranked, page_name, data_root=ranked.parent / "data", **address)
    after = {name: value if isinstance(value, list) else [value] for name, value in dict(at.query_params).items()}
    wanted = {name: value if isinstance(value, list) else [value] for name, value in address.items()}
    assert {name: after.get(name) for name in wanted} == wanted
    assert set(after) - set(wanted) <= {"data", "split", "run", "image"}, "nothing else was chosen"
    again = opened(ranked, page_name, data_root=ranked.parent / "data", **dict(at.query_params))
    for kind in ("selectbox", "multiselect", "toggle", "slider", "text_input", "segmented_control"):
        values = [[widget.value for widget in getattr(shown, kind)] for shown in (at, again)]
        assert values[0] == values[1], kind


def test_what_is_chosen_goes_into_the_address(opened, ranked: Path) -> None:
    at = opened(ranked)
    assert list(at.dataframe[0].value["title"])[-3:] != ["C", "B", "A"]
    order = next(box for box in at.selectbox if box.label == "sort by")
    order.set_value("title").run()
    assert at.query_params["sort"] == "title"
    next(toggle for toggle in at.toggle if toggle.label == "reversed").set_value(True).run()
    assert at.query_params["reversed"] == "1"
    assert list(at.dataframe[0].value["title"])[-3:] == ["C", "B", "A"]
    at.selectbox(key="board/sort").set_value("rank").run()
    assert "sort" not in at.query_params


def test_a_filter_that_hides_all_changes_no_columns(opened, ranked: Path) -> None:
    at = opened(ranked)
    before = list(at.dataframe[0].value.columns)
    for text in ("zzz", ""):
        at.text_input[0].set_value(text).run()
        columns = at.multiselect(key="board/column")
        options = [columns.options[number] for number in columns.proto.default]
        assert len(options) == len(columns.value) > 0, "what a browser begins with that has not drawn it yet"
    assert list(at.dataframe[0].value.columns) == before
    assert "column" not in at.query_params


def test_runs_that_the_address_ticks_are_compared_though_a_filter_hides_them(opened, ranked: Path) -> None:
    at = opened(ranked, tick=[5, 7, 99], filter="run 6")
    assert list(at.dataframe[0].value["title"]) == ["B"]
    button = next(b for b in at.button if b.label.startswith("Compare"))
    assert button.label == "Compare 2 runs"
    assert button.help == "tick two to 8 runs; 2 are hidden by the filter"


@pytest.mark.parametrize(
    "address",
    [
        {
            "data": PATHS,
            "split": "nope",
            "protocol": "<script>",
            "metric": "x" * 10_000,
            "schedule": "all; DROP TABLE run",
        },
        {"column": ["nope", "voc/AP@0.5", "voc/AP@0.5"], "ranks": "7", "superseded": "true"},
        {"filter": "[(*"},
    ],
)
def test_an_address_that_nobody_could_have_chosen(opened, texts, ranked: Path, address) -> None:
    at = opened(ranked, **address)
    assert at.title[0].value == "Board"
    assert "script" not in texts(at)


def test_superseded_runs_are_shown_on_request_and_do_not_rank(opened, ranked: Path) -> None:
    with open_store(ranked) as store:
        store.supersede(5)
    assert "A" not in list(opened(ranked).dataframe[0].value["title"])
    table = opened(ranked, superseded=1).dataframe[0].value
    row = table[table["title"] == "A"]
    assert "superseded" in row["badges"].item()
    assert row["rank"].isna().all()


def test_marks_of_a_plan_become_badges(opened, add_copy, ran: Path) -> None:
    with open_store(ran) as store:
        add_copy(store, 2, "Known", arguments={"demo": True, "further_data": [{"dataset": "tiny", "split": "val"}]})
        add_copy(store, 3, "Other", arguments={"trained_on": ["elsewhere"]})
    table = opened(ran).dataframe[0].value
    badges = dict(zip(table["title"], table["badges"], strict=True))
    assert list(badges["Known"]) == ["measured", "trained-on-this", "demo"]
    assert list(badges["Other"]) == ["measured"]


def test_a_rank_for_every_number(opened, ranked: Path) -> None:
    table = opened(ranked, ranks=1).dataframe[0].value
    assert [c for c in table.columns if c.endswith(":rank")]


# -- papers -----------------------------------------------------------------------------------------------


def test_reported_stands_apart_and_beside(opened, ranked: Path) -> None:
    with open_store(ranked) as store:
        measured = next(r for r in store.bundle(5).results if r.metric == "AP@0.5")
        row = ReportedResultRecord(
            "Somebody 2018",
            "Table 1",
            "Theirs",
            "tiny",
            "voc",
            "AP@0.5",
            0.25,
            "fraction",
            True,
            split="test",
            counterpart="a",
        )
        store.add_reported(
            [row, dataclasses.replace(row, method="Not the same", comparable=False, note="other images")]
        )
    at = opened(ranked)
    assert list(at.dataframe[-1].value["method"]) == ["Theirs", "Not the same"]
    assert "Theirs" not in list(at.dataframe[0].value["title"]), "never ranked with what was measured"
    table = opened(ranked, "papers", data="tiny").dataframe[0].value
    assert table["reported"].tolist() == [25.0, 25.0]
    assert table["measured"].tolist() == pytest.approx([100 * measured.value] * 2)
    assert table["difference"].iloc[0] == pytest.approx(100 * (measured.value - 0.25))
    assert table["difference"].isna().tolist() == [False, True]


# -- images, comparisons, runs ----------------------------------------------------------------------------


def test_the_images_behind_a_number_worst_first(opened, texts, ranked: Path) -> None:
    at = opened(
        ranked, "images", data_root=ranked.parent / "data", run=6, other=5, protocol="kaggle", metric="mAP@.5:.95"
    )
    table = at.dataframe[0].value
    assert table["a"].is_monotonic_increasing
    assert (table["a"] - table["b"]).tolist() == pytest.approx(table["difference"].tolist())
    first = table["image"].iloc[0]
    assert f"**{first}**" in texts(at)
    next(b for b in at.button if b.label == "Next").click().run()
    assert f"**{table['image'].iloc[1]}**" in texts(at)
    assert at.query_params["image"] == table["image"].iloc[1]


def test_without_the_files_the_numbers_stay(opened, ranked: Path, tmp_path: Path) -> None:
    at = opened(ranked, "images", data_root=tmp_path / "nowhere", run=5)
    assert "the files of tiny are not there" in at.warning[0].value
    assert len(at.dataframe[0].value) == 4
    shutil.rmtree(ranked.parent / "runs")
    gone = opened(ranked, "images", data_root=ranked.parent / "data", run=5)
    assert "the predictions of run 5 are gone" in gone.warning[0].value


def test_black_and_white_stay_apart(opened, ranked: Path) -> None:
    for given, kept in ((("0.5", "0.5"), (0.5, 1.5)), (("100", "100"), (99.0, 100.0)), (("3", "88.5"), (3.0, 88.5))):
        at = opened(ranked, "images", data_root=ranked.parent / "data", run=5, contrast=list(given))
        assert at.slider(key="images/contrast").value == kept
    at.slider(key="images/contrast").set_value((40.0, 40.0)).run()
    assert at.slider(key="images/contrast").value == (40.0, 41.0)
    assert at.query_params["contrast"] == ["40", "41"]


def test_nobody_knows_the_seed_of_a_submission(opened, texts, add_copy, ran: Path) -> None:
    with open_store(ran) as store:
        run_id = add_copy(store, 2, "Theirs", schedule="submitted", init="unknown", badge="submitted")
    at = opened(ran, "images", data_root=ran.parent / "data", run=run_id)
    shown = next(box for box in at.selectbox if box.label == "run A")
    assert f"{run_id}: Theirs (submitted)" in shown.options
    page = opened(ran, "run", run=run_id)
    assert "seed" not in page.markdown[0].value
    assert "unknown" not in [metric.value for metric in page.metric]


def test_methods_are_called_by_their_titles(opened, texts, ranked: Path) -> None:
    at = opened(ranked, "datasets")
    assert sorted(at.dataframe[0].value["method"]) == ["A", "B", "C"]
    assert sorted(at.multiselect[0].value) == ["a", "b", "c"], "a link holds names"


def test_methods_of_one_title_are_told_apart_by_their_names(opened, add_copy, ran: Path) -> None:
    with open_store(ran) as store:
        bundle = store.bundle(add_copy(store, 2, "Net"))
        same = dataclasses.replace(bundle.method, name="other", title="Net", code_hash="c" * 64)
        store.add(dataclasses.replace(bundle, method=same, run=dataclasses.replace(bundle.run, key="c" * 64)))
    shown = opened(ran, "datasets").dataframe[0].value["method"]
    assert sorted(shown) == ["Net [net]", "Net [other]"]


def test_one_point_is_no_front(opened, texts, ranked: Path) -> None:
    """A is both the fastest and the best of what is timed."""
    assert "than run 5: it alone is the Pareto front" in texts(opened(ranked, "speed"))


def test_an_image_that_is_none(opened, texts, ranked: Path) -> None:
    at = opened(
        ranked, "images", data_root=ranked.parent / "data", run=5, image=PATHS, number="x", order="y", iou="nan"
    )
    assert "passwd" not in texts(at)
    assert not at.warning


def test_comparing(opened, ranked: Path) -> None:
    def part(name: str):
        at = opened(
            ranked,
            "compare",
            data_root=ranked.parent / "data",
            run=[5, 6, 7],
            protocol="voc",
            metric="AP@0.5",
            part=name,
        )
        assert not at.warning
        assert at.segmented_control[0].value == name
        return at

    at = part("images")
    assert at.segmented_control[0].options == [
        "Image by image",
        "Differences",
        "IoU curves",
        "Cell size and density",
    ]
    drawn = " ".join(str(chart.proto.spec) for chart in at.get("vega_lite_chart"))
    for title in ("A (run 5), AP@0.5 [%]", "B (run 6), AP@0.5 [%]", "tiny, test: voc AP@0.5, a point an image"):
        assert title in drawn
    summary = at.dataframe[0].value
    assert summary["images"].tolist() == [4, 4, 4]
    assert (summary["better"] + summary["equal"] + summary["worse"]).tolist() == [4, 4, 4]
    differences = part("differences")
    assert [info.value for info in differences.info] == [f"Only 4 images: {said_of_few(4)}."], "as bench compare says"
    shown, pairs = (frame.value for frame in differences.dataframe)
    # So few images tell no two runs apart, so that they share a rank; the values say in which order.
    assert pairs["low"].isna().all()
    assert not pairs["told apart"].any()
    assert [run.partition(" (")[0] for run in shown["run"]] == ["run 5", "run 7", "run 6"]
    assert shown["rank"].tolist() == [1, 1, 1]
    assert shown.iloc[:, 2].is_monotonic_decreasing
    for name in ("curves", "cells"):
        assert len(part(name).get("vega_lite_chart")) == 2


def test_runs_that_cannot_be_told_apart_share_a_rank(opened, ranked: Path, two_images_suffice) -> None:
    """Run 5 holds the predictions of run 2, run 6 others."""
    at = opened(
        ranked, "compare", data_root=ranked.parent / "data", run=[2, 5, 6], protocol="voc", metric="AP@0.5",
        part="differences",
    )  # fmt: skip
    shown, pairs = (frame.value for frame in at.dataframe)
    same = pairs[pairs["pair"] == "run 2 − run 5"]
    assert same[["difference", "low", "high"]].values.tolist() == [[0.0, 0.0, 0.0]]
    assert not same["told apart"].item()
    assert dict(zip((run.partition(" (")[0] for run in shown["run"]), shown["rank"], strict=True)) == {
        "run 2": 1,
        "run 5": 1,
        "run 6": 3,
    }


def test_runs_of_different_images_are_not_compared(opened, ran: Path) -> None:
    with open_store(ran) as store:
        bundle = store.bundle(2)
        dataset = dataclasses.replace(bundle.dataset, content_hash="0" * 64)
        other = store.add(
            dataclasses.replace(bundle, dataset=dataset, run=dataclasses.replace(bundle.run, key="d" * 64))
        )
    at = opened(ran, "compare", run=[1, other])
    assert "not of the same images" in at.warning[0].value


def test_a_run_that_is_not_there(opened, ran: Path) -> None:
    for page in ("run", "images"):
        assert "99" in opened(ran, page, run=99).warning[0].value


def test_a_run_page(opened, ranked: Path) -> None:
    at = opened(ranked, "run", run=5)
    assert at.title[0].value == "Run 5: A"
    assert at.code[0].value, "the command"
    assert set(at.dataframe[0].value["protocol"]) == {"voc", "kaggle"}
    at.segmented_control[0].set_value("provenance").run()
    assert at.query_params["part"] == "provenance"
    shown = [frame.value for frame in at.dataframe]
    assert any(("key", "A" + "x" * 63) in zip(f["what"], f["value"], strict=True) for f in shown if "what" in f)


# -- hostile ----------------------------------------------------------------------------------------------


def test_names_of_a_submission_do_nothing(opened, add_copy, ran: Path, page: str) -> None:
    with open_store(ran) as store:
        run_id = add_copy(store, 2, HOSTILE, submitted_by=HOSTILE, note=HOSTILE + "\x1b[31m\u202e", command=HOSTILE)
        add_copy(store, 3, "B")
    at = opened(ran, page, data_root=ran.parent / "data", run=[run_id, 6] if page == "compare" else run_id)
    for kind in ("title", "subheader", "markdown", "caption", "info", "warning", "error"):
        for element in getattr(at, kind):
            assert "<script" not in element.value
            assert "[x](javascript" not in element.value
            assert ":red[y]" not in element.value
            assert "\x1b" not in element.value


@pytest.mark.parametrize("folder", [PATHS, "/etc", "../..", "/", "a\0b"])
def test_no_path_of_a_submission_is_read(
    opened, texts, add_copy, ran: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(ran) as store:
        run_id = add_copy(store, 2, "Evil", folder=folder)
    asked = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: (asked.append(str(self)), real(self, *a, **k))[1])
    at = opened(ran, "run", run=run_id, part="log")
    assert "There is no log" in texts(at)
    assert "root:" not in texts(at)
    images = opened(ran, "images", data_root=ran.parent / "data", run=run_id)
    assert "are gone" in texts(images)
    assert not [path for path in asked if path.startswith("/etc")]
