"""Every card opens on its stand-in, and what it promises is there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from skimage.filters import threshold_otsu
from skimage.measure import label

from bench.data import dataset as dataset_module
from bench.data import open_dataset, png, synthetic
from bench.data.cards import Card, ListRule, PartsRule, SeededRule, card_names, load_card
from bench.data.dataset import Dataset
from bench.data.splits import shares
from bench.data.synthetic import make_generator
from bench.metrics import score

FEW: Mapping[str, Mapping[str, int]] = {
    "bbbc039": {"images": 8},
    "dsb2018": {"images": 10, "test": 3},
    "evican": {"train": 13, "val": 12, "easy": 2, "medium": 2, "difficult": 2},
    "hela": {"frames": 4},
    "livecell": {"train": 8, "val": 8, "test": 8},
    "mcf10a": {"train": 3, "val": 1, "test": 1},
    "neural": {"train": 3, "val": 1, "test": 1},
    "sartorius": {"train": 10, "unlabelled": 2, "competition": 1},
    "u373": {"frames": 4},
    "usiigaci": {"images": 3},
}
"""Parameters for a stand-in of a few images."""


DIGESTS = {
    "bbbc039": "a796a613148023da",
    "dsb2018": "848abe381a8a6ad9",
    "evican": "b8e4a901e44fd6d8",
    "hela": "360487fb45e693f4",
    "livecell": "b25d6a51b16f824c",
    "mcf10a": "62d48c1d963b56ad",
    "neural": "fa28f49dc85015d6",
    "sartorius": "184133d6d834f621",
    "u373": "d165ee852225c2cf",
    "usiigaci": "c4045aa694e5121b",
}
"""sha256 of the files of the first and the last image with the seed 2018, in short."""


def test_every_card_has_a_stand_in_and_every_generator_is_tested():
    assert set(synthetic.generator_names()) == set(FEW)
    assert {load_card(name).stand_in.generator for name in card_names()} == set(FEW)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data root for all cards, so that those of one generator share its images."""
    return tmp_path_factory.mktemp("root")


def opened(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    def few(name: str) -> Card:
        card = load_card(name)
        return msgspec.structs.replace(
            card, stand_in=msgspec.structs.replace(card.stand_in, params=FEW[card.stand_in.generator])
        )

    monkeypatch.setattr(dataset_module, "load_card", few)
    monkeypatch.setattr(synthetic, "processors", lambda: 1)
    return open_dataset(name, root)


@pytest.mark.parametrize("name", card_names())
def test_a_card_opens_on_its_stand_in(name: str, root: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = opened(name, root, monkeypatch)
    assert dataset.source == "synthetic"
    assert not dataset.notes
    sample = dataset.split()[0]
    assert sample.instances is not None
    assert len(sample.instances) > 0
    assert dataset.task.objects is not None
    assert sample.instances.class_ids.max() < len(dataset.task.classes)
    train, _ = dataset.training_splits()
    assert train is not None
    assert not set(train.ids) & set(dataset.split().ids)


def test_the_classes_of_evican(root: Path, monkeypatch: pytest.MonkeyPatch):
    both = opened("evican60", root, monkeypatch)
    cells = opened("evican60_cell", root, monkeypatch)
    nuclei = opened("evican60_nucleus", root, monkeypatch)
    pair = opened("evican2", root, monkeypatch)
    assert [len(d.task.classes) for d in (both, cells, nuclei, pair)] == [60, 30, 30, 2]
    assert both.card.task.classes == both.task.classes == both.version.classes
    assert set(cells.task.classes) | set(nuclei.task.classes) == set(both.task.classes)
    counts = [d.version.n_instances for d in (both, cells, nuclei, pair)]
    assert counts[0] == counts[1] + counts[2] == counts[3]
    assert [len(pair.split(s)) for s in ("train", "val", "test", "easy", "medium", "difficult")] == [13, 12, 6, 2, 2, 2]
    empty = [s for s in pair.split("train") if "Background" in s.id]
    assert len(empty) == 1
    assert len(empty[0].instances) == 0
    sample = pair.split("easy")[0]
    masks = sample.instances.to_masks()
    cell, nucleus = (masks[sample.instances.class_ids == c].any(axis=0) for c in (0, 1))
    assert (nucleus & ~cell).sum() == 0
    assert sample.instances.class_ids.tolist() == sorted(sample.instances.class_ids)


def test_blur_grows_with_difficulty(root: Path, monkeypatch: pytest.MonkeyPatch):
    pair = opened("evican2", root, monkeypatch)

    def sharpness(split: str) -> float:
        images = [s.image.astype(np.float64) for s in pair.split(split)]
        return float(np.mean([np.percentile(np.abs(i[4:, 4:] - i[:-4, 4:]), 99.8) for i in images]))

    assert sharpness("easy") > 1.3 * sharpness("difficult")


def test_the_lines_of_livecell(root: Path, monkeypatch: pytest.MonkeyPatch):
    one = opened("livecell", root, monkeypatch)
    eight = opened("livecell_lines", root, monkeypatch)
    assert one.task.classes == ("cell",)
    assert len(eight.task.classes) == 8
    assert one.version.n_instances == eight.version.n_instances
    for line in eight.task.classes:
        split = one.split(f"{line.lower()}/test")
        assert {s.group.split("_")[0] for s in split} == {line}
    sample = next(s for s in eight.split("test") if "Huh7" in s.id)
    assert {eight.task.classes[c] for c in sample.instances.class_ids} == {"Huh7"}


def test_the_films_have_both_truths(root: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("dic_hela", "phc_u373"):
        film = opened(name, root, monkeypatch)
        assert [len(film.split(s)) for s in ("train", "test")] == shares(8, [134, 34])
        assert [len(film.split(f"sequence/{s}")) for s in ("train", "test")] == [4, 4]
        assert film.split("gold/test").ids == ("02-gold/t000",)
        assert {s.group for s in film.split("sequence/train")} == {"01"}


def test_the_types_and_the_unlabelled_images_of_sartorius(root: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = opened("sartorius", root, monkeypatch)
    assert [len(dataset.split(s)) for s in ("train", "test", "unlabelled")] == [8, 2, 2]
    assert all(s.instances is None for s in dataset.split("unlabelled"))
    kinds = {dataset.task.classes[c] for s in dataset.split("train") for c in s.instances.class_ids}
    assert kinds == {"shsy5y", "astro", "cort"}


def parts_of(card: Card) -> dict[str, int]:
    """Images of each part of the complete stand-in, as its reader will name the parts."""
    generator = make_generator(card.stand_in.generator, card.stand_in.seed, card.stand_in.params, card.path)
    counts: dict[str, int] = {}
    for item in generator.plan():
        names = [f"{item.part}-{kind}" for kind in ("silver", "gold")] if card.format["name"] == "ctc" else [item.part]
        for name in names[: len(generator.paths(item)) - 1] or names:
            counts[name] = counts.get(name, 0) + 1
    return counts


@pytest.mark.parametrize("name", card_names())
def test_the_complete_stand_in_has_the_numbers_of_the_paper(name: str):
    card = load_card(name)
    parts = parts_of(card)
    rule = card.schemes[card.default_scheme]
    assert not isinstance(rule, ListRule)
    if isinstance(rule, PartsRule):
        counts = {split: sum(parts.get(part, 0) for part in its) for split, its in rule.splits.items()}
    else:
        assert isinstance(rule, SeededRule)
        shared = sum(count for part, count in parts.items() if not rule.parts or part in rule.parts)
        counts = dict(zip(rule.splits, shares(shared, list(rule.splits.values())), strict=True))
        counts |= {split: sum(parts.get(part, 0) for part in its) for split, its in rule.whole.items()}
    for split, expected in card.expected.splits.items():
        if split != "competition":  # three images of the real set that no method is scored on
            assert counts[split] == expected
    if card.expected.images is not None:
        assert sum(parts.values()) == card.expected.images


@pytest.mark.parametrize("name", sorted(FEW))
def test_no_two_images_of_a_stand_in_have_one_name_or_one_look(name: str):
    generator = make_generator(name, 1, {}, Path("card.toml"))
    plan = generator.plan()
    paths = [path for item in plan for path in generator.paths(item)]
    assert len(set(paths)) == len(paths)
    ids = [(item.part, item.stem) for item in plan]
    assert len(set(ids)) == len(ids)
    few = make_generator(name, 1, dict(FEW[name]), Path("card.toml")).plan()[:3]
    images = [generator.make(item).image.tobytes() for item in few]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("name", sorted(FEW))
def test_an_image_is_made_of_the_seed_and_its_place_alone(name: str):
    generator = make_generator(name, 7, dict(FEW[name]), Path("card.toml"))
    item = generator.plan()[-1]
    first = generator.files(item)
    generator.make(generator.plan()[0])
    assert make_generator(name, 7, {}, Path("card.toml")).files(item) == first
    assert make_generator(name, 8, {}, Path("card.toml")).files(item)[0] != first[0]


@pytest.mark.parametrize("name", sorted(FEW))
def test_the_files_are_these_bytes_and_no_others(name: str):
    """On every machine. A change here is a new version of the generator."""
    generator = make_generator(name, 2018, {}, Path("card.toml"))
    plan = generator.plan()
    content = b"".join(file for item in (plan[0], plan[-1]) for file in generator.files(item))
    assert hashlib.sha256(content).hexdigest()[:16] == DIGESTS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FEW))
def test_twenty_images_a_second_on_two_cores(name: str):
    generator = make_generator(name, 3, {}, Path("card.toml"))
    items = generator.plan()[:: max(1, len(generator.plan()) // 16)]
    generator.make(items[0])
    begun = time.process_time()
    for item in items:
        generator.files(item)
    assert (time.process_time() - begun) / len(items) < 0.1


def test_the_densest_images_of_livecell():
    generator = make_generator("livecell", 2021, {}, Path("card.toml"))
    dense = [item for item in generator.plan() if item.group.startswith("BV2") and item.frame == 7]
    counts = [int(generator.make(item).labels["BV2"].max()) for item in dense[:12]]
    assert max(counts) >= 500
    assert max(counts) <= load_card("livecell").task.max_detections


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FEW))
def test_no_threshold_solves_a_stand_in(name: str):
    """Otsu's threshold and connected components, bright or dark, whichever is better for the image."""
    generator = make_generator(name, 3, {}, Path("card.toml"))
    qualities = []
    for item in generator.plan()[:: max(1, len(generator.plan()) // 5)][:5]:
        picture = generator.make(item)
        truth = next(iter(picture.labels.values())).astype(np.int32)
        if not truth.any():
            continue
        gray = picture.image if picture.image.ndim == 2 else picture.image.mean(axis=2)
        threshold = threshold_otsu(gray)
        found = [label(side).astype(np.int32) for side in (gray > threshold, gray <= threshold)]
        scores = [score([truth], [labels], ["panoptic"]).protocols["panoptic"]["PQ"] or 0.0 for labels in found]
        qualities.append(max(scores))
    assert np.mean(qualities) < 0.6


def test_a_colour_png(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (20, 31, 3)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(png.encode(image))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), image)
