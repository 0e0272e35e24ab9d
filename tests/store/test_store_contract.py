"""What a store does, on every database that can hold one."""

from __future__ import annotations

import dataclasses
import math
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from bench.errors import StoreError, UnknownNameError, UsageError
from bench.records import ImageRecord, ImageResultRecord, ReportedResultRecord, ResultRecord, TimingRecord
from bench.store import Store, open_store
from bench.store.latency import percentile
from bench.store.models import Base, Run

# -- one run ----------------------------------------------------------------------------------------------


def test_a_run_comes_back_as_it_was_added(store: Store, make) -> None:
    bundle = make()
    back = store.bundle(store.add(bundle))
    assert back.run == bundle.run
    assert (back.dataset, back.method, back.environment, back.machine) == (
        bundle.dataset,
        bundle.method,
        bundle.environment,
        bundle.machine,
    )
    assert back.images == bundle.images
    assert back.results == bundle.results
    assert set(back.image_results) == set(bundle.image_results)
    assert set(back.timings) == set(bundle.timings)
    assert back.artifacts == bundle.artifacts


def test_moments_are_kept_in_utc(store: Store, make) -> None:
    tokyo = timezone(timedelta(hours=9))
    bundle = make(started=datetime(2026, 1, 1, 8, 0, 0, 123456, tzinfo=tokyo))
    stored = store.run(store.add(bundle))
    assert stored.started == datetime(2025, 12, 31, 23, 0, 0, 123456, tzinfo=UTC)
    assert stored.started.utcoffset() == timedelta(0)


def test_odd_text_is_stored_rather_than_lost(store: Store, make) -> None:
    failure = "log with \0 NUL, an unpaired \udcff surrogate, 細胞 and \x1b[31mcolour"
    run_id = store.add(make(status="failed", failure_kind="error", failure=failure, arguments={"p\0": "\udc80"}))
    back = store.bundle(run_id).run
    assert back.failure == "log with \\x00 NUL, an unpaired \\udcff surrogate, 細胞 and \x1b[31mcolour"
    assert back.arguments == {"p\\x00": "\\udc80"}


def test_arguments_of_any_kind_become_plain_data(store: Store, make, tmp_path) -> None:
    arguments = {
        "path": tmp_path,
        "numpy": np.float64(0.5),
        "array": np.arange(3),
        "tuple": (1, (2, 3)),
        "set": {"b", "a"},
        "infinite": math.inf,
        1: None,
    }
    assert store.bundle(store.add(make(arguments=arguments))).run.arguments == {
        "path": str(tmp_path),
        "numpy": 0.5,
        "array": [0, 1, 2],
        "tuple": [1, [2, 3]],
        "set": ["a", "b"],
        "infinite": "inf",
        "1": None,
    }


def test_numbers_of_numpy_are_numbers(store: Store, make) -> None:
    numbers = dataclasses.replace(
        make(results=(ResultRecord("voc", "1", "AP@0.5", np.float32(0.5), "fraction", np.bool_(True), n=np.int64(2)),)),
        image_results=(
            ImageResultRecord("a", "voc", "1", "AP@0.5", np.float32(0.25), *np.array([1, 2, 3], np.uint16)),
        ),
        timings=(TimingRecord("a", "total", np.int32(0), np.float32(12.5)),),
    )
    back = store.bundle(store.add(numbers))
    assert back.results == (ResultRecord("voc", "1", "AP@0.5", 0.5, "fraction", True, n=2),)
    assert back.image_results == (ImageResultRecord("a", "voc", "1", "AP@0.5", 0.25, 1, 2, 3),)
    assert back.timings == (TimingRecord("a", "total", 0, 12.5),)


def test_latency_by_hand(store: Store, make) -> None:
    # total: 12, 22, 13, 23 ms; network: 10, 20, 10, 20 ms
    run_id = store.add(make())
    summary = store.latency(run_id)
    assert list(summary) == ["total", "network"]
    total = summary["total"]
    assert (total.n, total.median_ms) == (4, 17.5)
    assert total.p95_ms == pytest.approx(22.85)  # 22 + 0.85 * (23 - 22)
    assert total.iqr_ms == pytest.approx(22.25 - 12.75)
    assert total.images_per_second == pytest.approx(4000 / 70)
    assert store.run(run_id).latency_median_ms == 17.5
    assert store.run(run_id).latency_p95_ms == pytest.approx(22.85)


def test_percentiles_are_those_of_numpy(make) -> None:
    values = np.random.default_rng(0).exponential(size=37)
    for percent in (0, 5, 25, 50, 95, 99.9, 100):
        assert percentile(values.tolist(), percent) == pytest.approx(float(np.percentile(values, percent)))
    assert percentile([3.0], 95) == 3.0


def test_a_run_without_timings_has_no_latency(store: Store, make) -> None:
    run_id = store.add(dataclasses.replace(make(), timings=()))
    assert store.latency(run_id) == {}
    assert store.run(run_id).latency_median_ms is None


# -- keys -------------------------------------------------------------------------------------------------


def test_a_finished_key_is_stored_once(store: Store, make, key) -> None:
    first = store.add(make("x", value=0.5))
    assert store.add(make("x", value=0.9)) == first
    assert store.attempts(key("x")) == 1
    assert store.bundle(first).results[0].value == 0.5


def test_supersede_replaces_what_stands(store: Store, make, key) -> None:
    first = store.add(make("x", value=0.5))
    second = store.add(make("x", value=0.9), supersede=True)
    assert second != first
    assert store.finished(key("x")).id == second
    assert store.run(first).superseded
    assert [run.id for run in store.runs()] == [second]
    assert [run.id for run in store.runs(include_superseded=True)] == [second, first]
    assert set(store.results()["run_id"]) == {second}
    assert store.attempts(key("x")) == 2


def test_failures_are_outcomes(store: Store, make, key) -> None:
    failed = make("x", status="failed", failure_kind="out_of_memory", failure="16 GiB were not enough", attempt=1)
    first, second = store.add(failed), store.add(failed)
    assert first != second
    assert store.finished(key("x")) is None
    good = store.add(make("x", attempt=3))
    third = store.add(failed, supersede=True)
    assert store.finished(key("x")).id == good, "a failure never replaces a run that finished"
    assert store.attempts(key("x")) == 4
    assert store.run(third).failure_kind == "out_of_memory"
    assert {run.id for run in store.runs(status="failed")} == {first, second, third}
    assert set(store.results()["run_id"]) == {good}


def test_a_superseded_key_can_be_run_again(store: Store, make, key) -> None:
    first = store.add(make("x"))
    store.supersede(first)
    assert store.finished(key("x")) is None
    assert store.add(make("x")) != first


def test_delete_takes_everything_of_a_run(store: Store, make, key) -> None:
    kept, gone = store.add(make("kept")), store.add(make("gone"))
    store.delete(gone)
    with pytest.raises(UnknownNameError):
        store.run(gone)
    assert len(store.bundle(kept).timings) == 8
    assert store.image_results(gone).empty
    assert store.timings(gone).empty
    assert store.add(make("gone")) not in (kept, gone), "a number is never given twice"
    with pytest.raises(UnknownNameError):
        store.delete(gone)
    with pytest.raises(UnknownNameError):
        store.supersede(gone)


@pytest.fixture(scope="module")
def shared_store() -> Iterator[Store]:
    """One store in memory for many small checks."""
    with open_store(":memory:") as opened:
        yield opened


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ok", "supersede", "failed", "withdraw", "delete"]),
        st.sampled_from(["x", "y"]),
        st.integers(0, 3),
    ),
    max_size=14,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_at_most_one_run_stands_for_a_key_whatever_is_done(shared_store: Store, make, key, steps) -> None:
    store, example = shared_store, uuid.uuid4().hex
    standing: dict[str, int] = {}
    everything: dict[int, str] = {}
    for step, name, number in steps:
        if step in ("ok", "supersede"):
            run_id = store.add(make((example, name)), supersede=step == "supersede")
            if step == "ok" and name in standing:
                assert run_id == standing[name]
            else:
                assert run_id not in everything
            standing[name] = run_id
            everything[run_id] = name
        elif step == "failed":
            run_id = store.add(make((example, name), status="failed", failure_kind="timeout"))
            assert run_id not in everything
            everything[run_id] = name
        elif everything:
            run_id = sorted(everything)[number % len(everything)]
            (store.supersede if step == "withdraw" else store.delete)(run_id)
            if step == "delete":
                del everything[run_id]
            standing = {n: i for n, i in standing.items() if i != run_id}
    for name in ("x", "y"):
        wanted = key((example, name))
        stands = [run.id for run in store.runs(status="ok") if run.key == wanted]
        assert stands == ([standing[name]] if name in standing else [])
        finished = store.finished(wanted)
        assert (finished and finished.id) == standing.get(name)
        assert store.attempts(wanted) == sum(n == name for n in everything.values())


def test_the_schema_itself_refuses_a_second_standing_run(store: Store, make) -> None:
    first = store.add(make("x"))
    store.add(make("x"), supersede=True)
    with pytest.raises(IntegrityError), store._database.writing() as session:
        session.execute(update(Run).where(Run.id == first).values(superseded=False))


# -- what is shared ---------------------------------------------------------------------------------------


def test_runs_share_their_data_set_method_and_machine(store: Store, make) -> None:
    store.add(make(0))
    one = everything_in(store)
    store.add(make(1))
    both = everything_in(store)
    own = ("run", "result", "image_result", "timing_sample", "artifact")
    assert both == one | {name: 2 * one[name] for name in own}
    assert (one["image"], one["metric"], one["method_version"]) == (2, 5, 1)


def test_a_later_title_is_taken_and_provenance_is_not_rewritten(store: Store, make) -> None:
    first = store.add(make("1", machine={"driver": "550"}))
    second = store.add(
        make("2", dataset={"title": "Cells, corrected"}, method={"title": "U-Net"}, machine={"driver": "560"})
    )
    assert store.bundle(first).dataset.title == "Cells, corrected"
    assert store.bundle(first).method.title == "U-Net"
    assert store.bundle(first).machine.driver == "550"
    assert store.bundle(second).machine.driver == "560"
    assert store.run(first).machine == store.run(second).machine


def test_parameters_are_counted_for_each_run(store: Store, make) -> None:
    one = store.add(make("one class", method={"n_parameters": 10}))
    three = store.add(make("three classes", method={"n_parameters": 12}, dataset={"name": "other"}))
    assert (store.run(one).n_parameters, store.run(three).n_parameters) == (10, 12)


def test_images_of_a_known_version_need_not_be_given_again(store: Store, make) -> None:
    store.add(make("1"))
    second = store.add(dataclasses.replace(make("2"), images=()))
    assert len(store.image_results(second)) == 3


# -- what is refused --------------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"results": (ResultRecord("voc", "1", "AP", None, "fraction", True),)}, "neither a value nor a reason"),
        ({"results": (ResultRecord("voc", "1", "AP", None, "fraction", True, ""),)}, "neither a value nor a reason"),
        ({"results": (ResultRecord("voc", "1", "AP", NAN, "fraction", True),)}, "not finite"),
        ({"results": (ResultRecord("voc", "1", "AP", math.inf, "fraction", True, "why"),)}, "not finite"),
        ({"results": (ResultRecord("voc", "1", "AP", 0.5, "fraction", True, low=0.6, high=0.4),)}, "interval"),
        ({"results": (ResultRecord("voc", "1", "AP", 0.5, "fraction", True, low=0.4),)}, "interval"),
        ({"results": (ResultRecord("voc", "1", "AP", 0.5, "fraction", True),) * 2}, "given 2 times"),
        ({"image_results": (ImageResultRecord("a", "voc", "1", "AP", NAN),)}, "not finite"),
        ({"image_results": (ImageResultRecord("zebra", "voc", "1", "AP", 0.5),)}, "'zebra' is not in"),
        ({"image_results": (ImageResultRecord("a", "voc", "1", "AP", 0.5),) * 2}, "given 2 times"),
        ({"timings": (TimingRecord("a", "warm-up", 0, 1.0),)}, "unknown timing phase 'warm-up'"),
        ({"timings": (TimingRecord("a", "total", 0, -1.0),)}, "-1.0 ms"),
        ({"timings": (TimingRecord("zebra", "total", 0, 1.0),)}, "'zebra' is not in"),
        ({"images": (ImageRecord("a", "s", 1, 1, 0),) * 2}, "image 'a' is given 2 times"),
    ],
)
def test_a_bundle_that_contradicts_itself_is_refused(shared_store: Store, make, part, words) -> None:
    new = make(uuid.uuid4(), dataset={"name": "refused"})
    with pytest.raises(StoreError, match=words):
        shared_store.add(dataclasses.replace(new, **part))
    assert shared_store.attempts(new.run.key) == 0
    assert shared_store.datasets("refused") == []


def test_a_run_that_is_refused_late_leaves_nothing(store: Store, make) -> None:
    late = (TimingRecord("zebra", "total", 0, 1.0),)
    with pytest.raises(StoreError, match="'zebra' is not in"):
        store.add(dataclasses.replace(make(), timings=late))
    assert everything_in(store) == {}
    store.add(make())


def everything_in(store: Store) -> dict[str, int]:
    """Table to rows, of the tables that have some."""
    with store._database.reading() as connection:
        counts = {t.name: connection.scalar(select(func.count()).select_from(t)) for t in Base.metadata.sorted_tables}
    return {name: count for name, count in counts.items() if count}


def test_other_pixels_under_the_same_version_are_refused(store: Store, make) -> None:
    store.add(make("1"))
    changed = dataclasses.replace(make("2"), images=(ImageRecord("a", "f" * 64, 512, 640, 3),))
    with pytest.raises(StoreError, match="image 'a' of cells has another content"):
        store.add(changed)
    assert len(store.runs()) == 1


def test_a_failure_needs_a_kind_and_a_success_has_none(store: Store, make) -> None:
    with pytest.raises(StoreError, match="without a kind"):
        store.add(make(status="failed"))
    with pytest.raises(StoreError, match="names the failure"):
        store.add(make(failure_kind="timeout"))


def test_a_bug_of_ours_is_not_dressed_as_the_user_s(store: Store, make) -> None:
    with pytest.raises(IntegrityError):
        store.add(make(badge="golden"))
    assert store.runs() == []


# -- finding ----------------------------------------------------------------------------------------------


def test_filters(store: Store, make) -> None:
    a = store.add(make("a", seed=1))
    b = store.add(make("b", schedule="smoke", split="val"))
    c = store.add(make("c", method={"variant": "focal"}))
    d = store.add(make("d", method={"name": "unet-bce", "variant": ""}, dataset={"name": "nuclei"}))
    e = store.add(make("e", status="failed", failure_kind="error"))

    def found(**filters: object) -> list[int]:
        return sorted(run.id for run in store.runs(**filters))

    assert found() == [a, b, c, d, e]
    assert found(method="unet") == [a, b, c, e]
    assert found(method="unet-focal") == [c]
    assert found(method="unet-bce", dataset="cells") == [a, b, e]
    assert found(method="unet-") == []
    assert found(dataset="nuclei") == [d]
    assert found(schedule="smoke") == [b]
    assert found(split="val") == [b]
    assert found(seed=1) == [a]
    assert found(status="failed") == [e]
    assert found(content_hash="another") == []
    assert [run.id for run in store.runs(limit=2)] == [e, d]
    assert [run.method for run in store.runs(dataset="nuclei")] == ["unet-bce"]


def test_a_run_is_found_by_number_or_key(store: Store, make, key) -> None:
    first = store.add(make("x"))
    failed = store.add(make("x", status="failed", failure_kind="error"))
    other = store.add(make("y"))
    assert store.run(first).id == first
    assert store.run(str(failed)).id == failed
    assert store.run(key("x")).id == first, "of one key, the run that stands"
    assert store.run(key("y")[:8].upper()).id == other
    store.supersede(first)
    assert store.run(key("x")).id == failed, "else the last"


def test_a_run_that_is_not_there(store: Store, make, key) -> None:
    store.add(make("x"))
    for reference in (999, "999", "zz", "%", "_", "", "9" * 40, -1):
        with pytest.raises(UnknownNameError, match="unknown run"):
            store.run(reference)
    with pytest.raises(UnknownNameError, match=f"did you mean {key('x')[:12]}"):
        store.run("0" + key("x")[1:12])
    with pytest.raises(UnknownNameError):
        store.bundle(999)


def test_a_beginning_that_fits_two_keys(store: Store, make) -> None:
    base = make()
    for end in ("1", "2"):
        store.add(dataclasses.replace(base, run=dataclasses.replace(base.run, key="ab" * 31 + f"c{end}")))
    with pytest.raises(UsageError, match="2 runs have a key that begins with 'abab'"):
        store.run("abab")
    assert store.run("ab" * 31 + "c2").id == 2


def test_data_set_versions(store: Store, make) -> None:
    assert store.datasets() == []
    store.add(make("1"))
    store.add(make("2", split="val"))
    store.add(make("3", dataset={"content_hash": "5", "source": "synthetic"}, status="failed", failure_kind="error"))
    newest, oldest = store.datasets()
    assert (newest.source, newest.n_runs, newest.splits) == ("synthetic", 1, {})
    assert (oldest.source, oldest.n_runs, oldest.splits) == ("real", 2, {"test": 1, "val": 1})
    assert oldest.classes == ("cell", "nucleus")
    assert oldest.ranks == "voc"
    assert store.datasets("nothing") == []


# -- rescoring --------------------------------------------------------------------------------------------


def test_rescoring_replaces_the_same_definition_and_keeps_the_others(store: Store, make) -> None:
    run_id = store.add(make())
    before = {(r.protocol, r.protocol_version, r.metric): r.value for r in store.bundle(run_id).results}
    store.rescore(
        run_id,
        [
            ResultRecord("voc", "1", "AP@0.5", 0.55, "fraction", True),
            ResultRecord("voc", "2", "AP@0.5", 0.57, "fraction", True),
        ],
        [ImageResultRecord("b", "voc", "2", "AP@0.5", 0.3)],
    )
    after = {(r.protocol, r.protocol_version, r.metric): r.value for r in store.bundle(run_id).results}
    assert after == before | {("voc", "1", "AP@0.5"): 0.55, ("voc", "2", "AP@0.5"): 0.57}
    assert len(store.bundle(run_id).image_results) == 4
    with pytest.raises(UnknownNameError):
        store.rescore(999, [])
    with pytest.raises(StoreError, match="'zebra'"):
        store.rescore(run_id, [], [ImageResultRecord("zebra", "voc", "2", "AP@0.5", 0.3)])


# -- papers -----------------------------------------------------------------------------------------------


def test_reported_results_live_apart_and_are_brought_up_to_date(store: Store, make) -> None:
    printed = ReportedResultRecord("Yi 2018", "2", "MNC", "neural", "voc", "AP@0.5", 0.61, "fraction", False, "boxes")
    other = dataclasses.replace(printed, metric="AP@0.7", value=0.4)
    assert store.add_reported([printed, other, printed]) == 2
    assert store.add_reported([dataclasses.replace(printed, value=0.62)]) == 1
    assert [r.value for r in store.reported()] == [0.62, 0.4]
    assert store.reported(dataset="neural", paper="Yi 2018", protocol="coco") == []
    assert store.runs() == []
    assert store.results().empty
    with pytest.raises(StoreError, match=r"given twice, as 0\.61 and as 0\.7"):
        store.add_reported([printed, dataclasses.replace(printed, value=0.7)])
    with pytest.raises(StoreError, match="is nan"):
        store.add_reported([dataclasses.replace(printed, value=NAN)])
    assert [r.value for r in store.reported()] == [0.62, 0.4]


def test_what_a_paper_no_longer_reports_goes_and_other_papers_stay(store: Store) -> None:
    printed = ReportedResultRecord("Yi 2018", "2", "MNC", "neural", "voc", "AP@0.5", 0.61, "fraction", False, "boxes")
    others = dataclasses.replace(printed, paper="Guo 2022")
    store.add_reported([printed, others])
    moved = dataclasses.replace(printed, split="test")
    assert store.add_reported([moved], whole=True) == 1
    assert set(store.reported()) == {others, moved}
