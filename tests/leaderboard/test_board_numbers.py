"""Means over seeds, data sets side by side, and printed numbers beside measured ones: by hand, on a store in memory."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench.data.reported import reported_results
from bench.records import (
    DatasetVersionRecord,
    EnvironmentRecord,
    MachineRecord,
    MethodVersionRecord,
    ReportedResultRecord,
    ResultRecord,
    RunBundle,
    RunRecord,
    metric_of_part,
)
from bench.store import Store, open_store
from leaderboard import data, state
from leaderboard.views import picking

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store(":memory:") as opened:
        yield opened


def add(
    store: Store,
    value: float,
    *,
    method: str = "unet",
    dataset: str = "cells",
    results: tuple[ResultRecord, ...] = (),
    changed: dict[str, Any] | None = None,
    arguments: dict[str, Any] | None = None,
    card: dict[str, Any] | None = None,
    **fields: Any,
) -> int:
    """A finished run; ``changed`` is what of its settings and initial weights is not the default.

    The data set has one image; what the complete one has, its ``card`` says.
    """
    said = {**({"changed": changed} if changed is not None else {}), **(arguments or {})}
    record = RunRecord(
        key="", split="test", seed=0, schedule="paper", init="random", device="cpu", status="ok", badge="measured",
        started=START, finished=START, attempt=1, folder="runs", command="bench run", n_images=1, complete=True,
        arguments=said,
    )  # fmt: skip
    of_version = {name: fields.pop(name) for name in ("code_hash", "origin") if name in fields}
    record = dataclasses.replace(record, **fields)
    key = repr((method, dataset, value, record, of_version)).encode().hex()
    name, _, variant = method.partition("-")
    version = MethodVersionRecord(name, variant, method, "stock", "code", said, str(sorted(said.items())))
    return store.add(
        RunBundle(
            run=dataclasses.replace(record, key=key),
            dataset=DatasetVersionRecord(
                dataset, f"c0ffee {card or ''}", "real", dataset, "CC0", 1, 3, ("cell",), ("voc",), card or {}
            ),
            method=dataclasses.replace(version, **of_version),
            environment=EnvironmentRecord("e", "3.11", "linux", None, None, None, None),
            machine=MachineRecord("m", "m", "cpu", 2, 1, "linux"),
            results=results or (ResultRecord("voc", "1", "AP@0.5", value, "fraction", True),),
        )
    )


# -- across data sets -------------------------------------------------------------------------------------


def test_a_mean_over_seeds_mixes_neither_settings_nor_initial_weights(store: Store) -> None:
    for seed, value in enumerate((0.5, 0.6)):
        add(store, value, seed=seed, changed={})
    add(store, 0.9, changed={"init": "coco"}, init="coco")
    add(store, 0.1, changed={"crop": 160})
    found = data.overview(store, "paper", synthetic=False)
    assert found.values == {"cells (test)": {"unet": pytest.approx(0.55)}}
    assert found.runs == {"unet": [1, 2]}
    assert found.changed == {"cells (test)": {}}


def test_settings_other_than_the_default_are_named(store: Store) -> None:
    add(store, 0.7, changed={"crop": 160})
    found = data.overview(store, "paper", synthetic=False)
    assert found.values == {"cells (test)": {"unet": 0.7}}
    assert found.changed == {"cells (test)": {"unet": {"crop": 160}}}


def test_submissions_are_beside_full_runs_with_badge_and_author(store: Store) -> None:
    add(store, 0.5, changed={})
    for who, value in (("Ada", 0.6), ("Ada", 0.65), ("Bob", 0.7), (None, 0.2)):
        add(
            store, value, method="mine", schedule="submitted", badge="submitted", origin="submitted", submitted_by=who,
            code_hash=str(who),
        )  # fmt: skip
    found = data.overview(store, "paper", synthetic=False)
    assert found.values["cells (test)"] == {
        "unet": 0.5,
        "mine (submitted by Ada)": 0.65,
        "mine (submitted by Bob)": 0.7,
        "mine (submitted)": 0.2,
    }
    assert data.overview(store, "short", synthetic=False).values == {}


def test_who_was_trained_on_the_data_set_is_left_out_and_named(store: Store) -> None:
    add(store, 0.5, changed={})
    add(store, 0.9, method="mine", schedule="submitted", badge="submitted", arguments={"trained_on": ["cells"]})
    found = data.overview(store, "paper", synthetic=False)
    assert found.values["cells (test)"] == {"unet": 0.5}
    assert found.left_out == {"cells (test)": ["mine (submitted)"]}


# -- papers -----------------------------------------------------------------------------------------------


PRINTED = ReportedResultRecord(
    "Yi 2018", "2", "U", "cells", "voc", "AP@0.5", 0.4, "fraction", True, split="test", counterpart="unet"
)


def test_only_the_default_settings_stand_beside_a_paper(store: Store) -> None:
    store.add_reported([PRINTED])
    add(store, 0.9, changed={"crop": 160})
    add(store, 0.8, changed={"init": "coco"}, init="coco")
    add(store, 0.7, complete=False, changed={})
    add(store, 0.6, method="unet-other", changed={})
    (row,) = data.reported(store).itertuples()
    assert (row.runs, str(row.measured)) == (0, "nan")
    first = add(store, 0.5, changed={})
    last = add(store, 0.6, seed=1, changed={})
    (row,) = data.reported(store).itertuples()
    assert (row.measured, row.runs, row.run_id) == (pytest.approx(0.55), 2, last)
    assert row.difference == pytest.approx(0.15)
    assert first < last


def test_a_level_of_difficulty_is_found_in_a_run_over_all_of_them(store: Store) -> None:
    store.add_reported([dataclasses.replace(PRINTED, split="easy")])
    of_part = ResultRecord("voc", "1", metric_of_part("AP@0.5", "easy"), 0.3, "fraction", True)
    whole = ResultRecord("voc", "1", "AP@0.5", 0.2, "fraction", True)
    add(store, 0.2, results=(whole, of_part), changed={})
    assert data.reported(store)["measured"].tolist() == [0.3]
    add(store, 0.35, split="easy", changed={})
    assert data.reported(store)["measured"].tolist() == [0.35], "a run of the level alone goes before"


def test_a_number_scored_by_an_older_version_of_a_protocol_is_set_aside(store: Store) -> None:
    store.add_reported([PRINTED])
    run_id = add(store, 0.5, changed={})
    store.rescore(run_id, [ResultRecord("voc", "10", "AP@0.5", 0.7, "fraction", True)])
    store.rescore(run_id, [ResultRecord("voc", "9", "AP@0.5", 0.6, "fraction", True)])
    assert data.reported(store)["measured"].tolist() == [0.7]


def test_every_printed_number_that_has_a_counterpart_finds_its_run(store: Store) -> None:
    records = reported_results()
    store.add_reported(records, whole=True)
    runs: dict[tuple[str, str, str], dict[tuple[str, str], str]] = {}
    for r in records:
        if r.counterpart:
            runs.setdefault((r.counterpart, r.dataset, r.split), {})[r.protocol, r.metric] = r.unit
    for (method, dataset, split), numbers in runs.items():
        results = tuple(ResultRecord(p, "1", m, 0.5, unit, True) for (p, m), unit in numbers.items())
        add(store, 0.5, method=method, dataset=dataset, split=split, results=results, changed={})
    found = data.reported(store)
    assert len(found) == len(records) == 169
    lonely = found[found["measured"].isna()]
    assert lonely["method"].tolist() == ["Cascade Mask R-CNN, without pseudo-labels"]
    assert lonely["note"].str.contains("no method of its own").all()
    assert found["difference"].notna().sum() == sum(r.comparable for r in records)
    assert found.loc[found["difference"].isna(), "note"].str.len().min() > 0, "each says why"


def test_a_number_of_a_part_of_a_data_set_is_not_held_against_a_paper(store: Store) -> None:
    store.add_reported([PRINTED])
    add(store, 0.5, changed={}, card={"expected": {"images": 200}})
    (row,) = data.reported(store).itertuples()
    assert (row.measured, str(row.difference), row.part) == (0.5, "nan", "1 of its 200 images")
    add(store, 0.6, changed={}, card={"expected": {"images": 1}})
    (row,) = data.reported(store).itertuples()
    assert (row.difference, row.part) == (pytest.approx(0.2), "")


# -- on the pages -----------------------------------------------------------------------------------------


def test_the_page_of_all_data_sets_says_what_is_not_as_the_others(opened, texts, tmp_path: Path) -> None:
    with open_store(tmp_path / "bench.db") as store:
        for dataset in ("cells", "nuclei"):
            add(store, 0.5, dataset=dataset, changed={"crop": 160} if dataset == "nuclei" else {})
            add(
                store, 0.7, dataset=dataset, method="mine", schedule="submitted", badge="submitted",
                submitted_by="<b>Ada</b>", arguments={"trained_on": ["nuclei"]},
            )  # fmt: skip
    at = opened(tmp_path / "bench.db", "datasets", method=["unet", "mine (submitted by <b>Ada</b>)"])
    assert "<b>" not in texts(at)
    said = html.unescape(texts(at).replace("\\", ""))
    assert "Not with the default settings, of which there is no run: unet on nuclei (test): crop=160" in said
    assert "Left out, said to be trained on the data set beyond its training split: mine (submitted by" in said
    table = at.dataframe[0].value
    assert table["method"].tolist() == ["unet", "mine (submitted by <b>Ada</b>)"]


def test_the_run_page_shows_what_weights_were_trained_on(opened, tmp_path: Path) -> None:
    with open_store(tmp_path / "bench.db") as store:
        run_id = add(store, 0.5, arguments={"trained_on": ["cells"], "changed": {"weights": "abc"}})
    at = opened(tmp_path / "bench.db", "run", run=run_id, part="provenance")
    assert "red-badge[trained-on-this]" in "".join(element.value for element in at.markdown)
    shown = {what: value for frame in at.dataframe if "what" in frame.value for what, value in frame.value.values}
    assert shown["weights said to be trained on"] == "cells"
    assert shown["changed from the method's defaults"] == "weights=abc"


def test_a_part_of_a_data_set_is_named_wherever_its_numbers_stand(opened, texts, tmp_path: Path) -> None:
    database = tmp_path / "bench.db"
    with open_store(database) as store:
        part = add(store, 0.5, changed={}, card={"expected": {"images": 200}})
        add(store, 0.6, changed={}, dataset="nuclei", card={"expected": {"images": 1}})
    said = "1 of its 200 images"
    for page, address in (("board", {"data": "cells."}), ("speed", {}), ("run", {"run": part}), ("datasets", {})):
        with open_store(database) as store:
            hash_ = store.run(part).content_hash
        address = {"data": f"cells.{hash_[:12]}"} if page in ("board", "speed") else address
        assert said in texts(opened(database, page, **address)), page
    assert said not in texts(opened(database, "run", run=2))


def test_a_single_data_set_in_common_makes_no_mean_rank(opened, texts, tmp_path: Path) -> None:
    with open_store(tmp_path / "bench.db") as store:
        add(store, 0.5, changed={})
        add(store, 0.6, method="other", changed={})
        add(store, 0.7, method="other", dataset="nuclei", changed={})
    at = opened(tmp_path / "bench.db", "datasets", method=["unet", "other"])
    assert "Mean rank" not in texts(at)
    assert html.unescape(at.info[0].value).startswith(
        "A mean rank needs two data sets in common, or more; these methods share cells (test) alone."
    )
    assert "Elsewhere, nuclei (test) lacks unet." in html.unescape(at.info[0].value)
    (link,) = at.get("page_link")
    assert link.proto.label == "Board of cells (test)"
    assert "data=cells." in link.proto.query_string


@pytest.mark.parametrize(("methods", "said"), [("", "Choose one method or more."), ("unet", "two methods or more")])
def test_fewer_than_two_methods_are_not_ranked(opened, tmp_path: Path, methods: str, said: str) -> None:
    with open_store(tmp_path / "bench.db") as store:
        for dataset in ("cells", "nuclei"):
            for method in ("unet", "other"):
                add(store, 0.5, method=method, dataset=dataset, changed={})
    at = opened(tmp_path / "bench.db", "datasets", method=methods)
    assert said in at.info[0].value


def test_a_submission_is_cited_by_who_made_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = add(
        store, 0.7, method="mine", schedule="submitted", badge="submitted", origin="submitted", submitted_by="Ada Löwe"
    )
    monkeypatch.setattr(state, "store", lambda: store)
    written = picking.cited([run_id])()
    assert 'author = {Ada L{\\"{o}}we}' in written
    assert "year = {2026}" in written
    assert "dataset_cells" in written
