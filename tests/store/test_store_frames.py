"""The frames: tidy results, images, timings."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.store import Store

RESULT_COLUMNS = {
    *("run_id", "method", "variant", "title", "dataset", "source", "split", "schedule", "seed", "init", "badge"),
    *("complete", "protocol", "protocol_version", "metric", "value", "low", "high", "unit", "higher_is_better"),
    *("reason", "n", "started", "commit", "device", "machine", "latency_median_ms", "latency_p95_ms"),
}


def test_results_are_tidy(store: Store, make) -> None:
    first = store.add(make("1", value=0.25))
    store.add(make("2", value=None, seed=1))
    frame = store.results()
    assert set(frame.columns) >= RESULT_COLUMNS
    assert len(frame) == 8
    row = frame[(frame.run_id == first) & (frame.metric == "AP@0.5")].iloc[0]
    assert (row.value, row.method, row.variant, row.dataset, row.unit) == (0.25, "unet-bce", "bce", "cells", "fraction")
    assert row.higher_is_better is True
    assert row.started == pd.Timestamp("2026-03-01 12:00", tz="UTC")
    undefined = frame[frame.value.isna()]
    assert undefined.reason.notna().all()
    assert set(undefined.reason) == {"no scores", "undefined: no prediction"}
    interval = frame[frame.metric == "IoU@0.5"].iloc[0]
    assert (interval.low, interval.high, interval.n) == (0.7, 0.9, 2)
    assert list(frame[frame.run_id == first].metric) == ["rmse", "AP@0.5", "IoU@0.5", "AP@0.7"]


def test_results_filters(store: Store, make) -> None:
    first = store.add(make("1"))
    second = store.add(make("2", split="val", schedule="smoke", method={"variant": "focal"}))
    store.add(make("3", status="failed", failure_kind="error"))

    def found(**filters: object) -> set[int]:
        return set(store.results(**filters)["run_id"])

    assert found() == {first, second}
    assert found(method="unet-focal") == {second}
    assert found(split="test") == {first}
    assert found(schedule="smoke") == {second}
    assert found(run_ids=[first]) == {first}
    assert found(run_ids=[]) == set()
    assert found(dataset="nuclei") == set()
    assert set(store.results(protocol="voc")["metric"]) == {"AP@0.5", "IoU@0.5", "AP@0.7"}
    assert set(store.results(metric="rmse")["protocol"]) == {"semantic"}


def test_frames_have_the_same_types_empty_and_full(store: Store, make) -> None:
    def types() -> list[dict[str, str]]:
        frames = (store.results(), store.image_results(1), store.timings(1))
        return [{str(name): str(kind) for name, kind in frame.dtypes.items()} for frame in frames]

    empty = types()
    assert store.add(make()) == 1
    assert types() == empty


def test_image_results(store: Store, make) -> None:
    frame = store.image_results(store.add(make()))
    assert len(frame) == 3
    a = frame[(frame.image == "a") & (frame.metric == "AP@0.5")].iloc[0]
    assert (a.value, a.tp, a.fp, a.fn, a.truths, a.height, a.width, a.group) == (0.5, 2, 1, 0, 3, 512, 640, "donor 1")
    assert a.unit == "fraction"
    assert a.higher_is_better is True
    without_result = frame[frame.protocol == "kaggle"].iloc[0]
    assert (without_result.value, without_result.unit, without_result.higher_is_better) == (0.25, "", None)
    assert pd.isna(without_result.tp)
    only = store.image_results(1, protocol="voc", metric="AP@0.5")
    assert list(only.image) == ["a", "b"]
    assert only.value.isna().tolist() == [False, True]


def test_timings(store: Store, make) -> None:
    frame = store.timings(store.add(make()))
    assert list(frame.columns) == ["image", "phase", "round", "milliseconds"]
    assert len(frame) == 8
    assert frame[frame.phase == "total"].milliseconds.tolist() == pytest.approx([12.0, 22.0, 13.0, 23.0])
