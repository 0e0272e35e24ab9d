"""Numbers of the parts of a split (levels of difficulty) out of one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.data import open_dataset
from bench.engine import scoring, service
from bench.metrics import score
from bench.records import metric_of_part, part_of_metric
from bench.report.runs import run_tables
from bench.store import open_store


@pytest.fixture
def levels(workplace: Path) -> Path:
    """The data set ``tiny`` with a split ``all`` of all images, of which its other splits are parts."""
    card = workplace / "cards" / "tiny.toml"
    text = card.read_text().replace('test = ["test"] }', 'test = ["test"], all = ["train", "val", "test"] }')
    card.write_text(text)
    return workplace


def numbers(run: service.FinishedRun) -> dict[str, float | None]:
    return {f"{r.protocol} {r.metric}": r.value for r in run.results}


def test_the_parts_of_a_split_are_the_splits_inside_it(levels: Path):
    dataset = open_dataset("tiny")
    parts = scoring.parts_of(dataset, "all")
    assert {name: len(ids) for name, ids in parts.items()} == {"train": 5, "val": 2, "test": 4}
    assert scoring.parts_of(dataset, "test") == {}


def test_every_part_has_its_numbers_and_they_are_those_of_its_images_alone(levels: Path):
    (run,) = service.run_all("jitter", "tiny", split="all")
    found = numbers(run)
    assert run.stored.n_images == 11
    dataset = open_dataset("tiny")
    predictions = {}
    from bench.engine.folder import Journal, from_record

    for record in Journal(Path(run.stored.folder) / "predictions.jsonl").read():
        image, instances = from_record(record)
        predictions[image] = instances
    for part in ("train", "val", "test"):
        samples = list(dataset.split(part))
        alone = score([s.instances for s in samples], [predictions[s.id] for s in samples], ["voc", "kaggle"])
        for protocol, scored in alone.protocols.items():
            for result in scored.results:
                assert found[f"{protocol} {metric_of_part(result.metric, part)}"] == pytest.approx(result.value)
    whole = [n for n in found if part_of_metric(n)[1] is None]
    assert len([n for n in found if n.endswith("(val)")]) == len(whole)
    text = run_tables([run])
    assert "split all, protocol voc" in text
    _, _, of_val = text.partition("only val of split all, protocol voc")
    row = next(line for line in of_val.splitlines() if "Jitter" in line)
    assert row.split()[5] == "2", row  # images of this part


def test_rescoring_keeps_the_parts_and_the_board_still_ranks_by_the_whole(levels: Path):
    from bench.engine.stored import rescore

    (run,) = service.run_all("jitter", "tiny", split="all")
    with open_store() as store:
        (again,) = rescore(store, [run.stored.id], None)
        assert again.error is None
        stored = {f"{r.protocol} {r.metric}": r.value for r in store.bundle(run.stored.id).results}
        board = store.leaderboard("tiny", split="all")
    assert stored == numbers(run)
    assert part_of_metric(board.attrs["metric"])[1] is None


def test_a_limited_run_has_numbers_only_of_parts_it_saw(levels: Path):
    (run,) = service.run_all("jitter", "tiny", split="all", limit=1)
    parts = {part_of_metric(r.metric)[1] for r in run.results} - {None}
    assert len(parts) == 1


def test_names_come_apart_as_they_were_put_together():
    assert part_of_metric(metric_of_part("AP@0.5", "easy")) == ("AP@0.5", "easy")
    for whole in ("AP", "AP@0.5", "AP/HeLa (cell)"):
        assert part_of_metric(whole) == (whole, None)


@pytest.mark.parametrize("name", ["evican60", "evican60_cell", "evican60_nucleus", "evican2"])
def test_evican_is_reported_by_level_of_difficulty(name: str):
    from bench.data import load_card

    splits = load_card(name).schemes["official"].splits
    assert set(splits["test"]) == {"easy", "medium", "difficult"}
    assert all(splits[level] == (level,) for level in splits["test"])
