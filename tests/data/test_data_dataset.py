"""Opening a data set: where it looks, what a version is, and how splits are read."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from bench.data import open_dataset
from bench.data.scan import pixel_hash, truth_hash
from bench.errors import DataError, OutputError, UnknownNameError
from bench.instances import Instances
from bench.task import ObjectStatistics, SampleSource

WriteCard = Callable[..., Path]


def write_images(root: Path, count: int, labels: NDArray[np.uint16], suffix: str = ".png") -> Path:
    for i in range(count):
        image = np.random.default_rng(i).integers(0, 256, labels.shape).astype(np.uint8)
        for kind, array in (("images", image), ("labels", np.roll(labels, i, axis=1))):
            path = root / kind / f"im{i:02d}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, array) if suffix == ".tif" else Image.fromarray(array).save(path)
    return root


@pytest.fixture
def mine(tmp_path: Path, write_card: WriteCard, cells: NDArray[np.uint16]) -> Path:
    """A data root with eight images of the data set ``mine``."""
    write_card("mine")
    write_images(tmp_path / "root" / "mine", 8, cells)
    return tmp_path / "root"


# -- the real sets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "images", "instances", "dtype"),
    [("dsb2018", 15, 755, np.uint8), ("bbbc039", 6, 475, np.uint16), ("usiigaci", 4, 247, np.uint16)],
)
def test_the_real_sets(shared_data: Path, name: str, images: int, instances: int, dtype: type):
    dataset = open_dataset(name, shared_data)
    assert dataset.source == "real"
    assert len(dataset) == images
    assert sum(r.truths for r in dataset.images()) == instances
    assert dataset.version.n_instances == instances
    assert dataset.notes == ()
    ids = [dataset.split(s).ids for s in ("train", "val", "test")]
    assert all(ids)
    assert sorted(i for split in ids for i in split) == [r.key for r in dataset.images()]
    for sample in dataset.split():
        record = next(r for r in dataset.images() if r.key == sample.id)
        assert sample.image.dtype == dtype
        assert sample.shape == (record.height, record.width)
        assert len(sample.instances) == record.truths


def test_a_data_root_that_is_the_data_set_itself(shared_data: Path):
    assert open_dataset("usiigaci", shared_data / "usiigaci").folder == shared_data / "usiigaci"


def test_the_data_root_of_the_environment(shared_data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BENCH_DATA_ROOT", str(shared_data))
    assert open_dataset("usiigaci").source == "real"


def test_object_sizes_of_real_cells_by_hand(shared_data: Path, write_card: WriteCard):
    form = """
        [format]
        name = "label_pairs"
        images = ["{set}/raw.tif"]
        labels = ["{set}/instances_ids.png"]
    """
    path = write_card("mine", format=form)
    path.write_text(path.read_text().replace('folders = ["mine"]', 'folders = ["usiigaci"]'))
    dataset = open_dataset("mine", shared_data)
    sides = []
    for name in dataset.split("train").ids:
        labels = np.asarray(Image.open(shared_data / "usiigaci" / name / "instances_ids.png"))
        for i in range(1, labels.max() + 1):
            rows, columns = np.nonzero(labels == i)
            if len(rows):
                sides.append(((np.ptp(rows) + 1) * (np.ptp(columns) + 1)) ** 0.5)
    assert dataset.task.objects.size_median == pytest.approx(np.median(sides), abs=0.05)
    assert dataset.task.classes == ("cell",)


# -- where it looks ------------------------------------------------------------------------------------


def test_nothing_there_and_no_stand_in(tmp_path: Path, write_card: WriteCard):
    write_card("mine")
    with pytest.raises(DataError) as caught:
        open_dataset("mine", tmp_path / "empty")
    assert f"looked for {tmp_path / 'empty' / 'mine'}" in caught.value.message
    assert "https://example.org" in caught.value.hint
    assert "--data-root" in caught.value.hint
    assert caught.value.exit_code == 3


def test_no_stand_in_wanted(tmp_path: Path):
    with pytest.raises(DataError, match=r"the files of neural are not there .* real images are asked for"):
        open_dataset("neural", tmp_path, stand_in=False)


def test_a_folder_without_images_is_an_error_not_a_stand_in(tmp_path: Path):
    (tmp_path / "neural").mkdir()
    with pytest.raises(DataError, match=r"neural: no image in it \(expected .*\{part\}/images/\{stem\}\.png"):
        open_dataset("neural", tmp_path)


def test_an_unknown_data_set():
    with pytest.raises(UnknownNameError, match=r"unknown data set 'nural' .did you mean neural"):
        open_dataset("nural")


# -- splits --------------------------------------------------------------------------------------------


def test_a_split_is_a_lazy_sample_source(mine: Path, cells: NDArray[np.uint16]):
    train = open_dataset("mine", mine).split("train")
    assert isinstance(train, SampleSource)
    assert (len(train), train.ids) == (4, tuple(sorted(train.ids)))
    assert [s.id for s in train] == list(train.ids)
    sample = train[-1]
    assert sample.id == train.ids[-1]
    number = int(sample.id[2:])
    assert np.array_equal(sample.image, np.random.default_rng(number).integers(0, 256, (40, 50)))
    assert sample.instances == Instances.from_label_map(np.roll(cells, number, axis=1))
    assert sample.meta["path"].endswith(f"{sample.id}.png")
    with pytest.raises(IndexError):
        train[4]
    (mine / "mine" / "images" / f"{train.ids[0]}.png").unlink()
    assert train[1].id == train.ids[1]
    with pytest.raises(DataError, match="no such file"):
        train[0]


def test_names_of_splits(mine: Path):
    dataset = open_dataset("mine", mine)
    assert dataset.split().name == "test"
    with pytest.raises(UnknownNameError, match=r"unknown split of mine 'tran'.*train") as caught:
        dataset.split("tran")
    assert caught.value.exit_code == 2


def test_a_limited_split(mine: Path):
    train = open_dataset("mine", mine).split("train")
    assert train.limit(None) is train
    assert train.limit(99) is train
    two, three = train.limit(2, seed=4), train.limit(3, seed=4)
    assert len(two) == 2
    assert set(two.ids) < set(three.ids)
    assert two.ids == train.limit(2, seed=4).ids
    assert len({train.limit(1, seed=s).ids for s in range(20)}) > 1
    assert two.take(two.ids[:1]).ids == two.ids[:1]
    with pytest.raises(UnknownNameError, match="unknown image of split train 'x'"):
        train.take(["x"])


def test_the_training_splits_belong_to_the_scheme(tmp_path: Path, write_card: WriteCard, cells: NDArray[np.uint16]):
    path = write_card(
        "mine",
        format="""
            [format]
            name = "label_pairs"
            images = ["{part}/images/{stem}.png"]
            labels = ["{part}/labels/{stem}.png"]
        """,
    )
    path.write_text(
        path.read_text()
        + '\n[schemes.official]\nrule = "parts"\nsplits = { train = ["a"], test = ["b"], rest = ["c"] }\n'
        + '\n[schemes.some]\nrule = "seeded"\nseed = 3\nparts = ["a"]\nsplits = { train = 1, test = 1 }\n'
    )
    write_images(tmp_path / "mine" / "a", 4, cells)
    for image in sorted((tmp_path / "mine" / "a").rglob("*.png"))[::4]:
        other = tmp_path / "mine" / "b" / image.parent.name / f"b{image.name}"
        other.parent.mkdir(parents=True, exist_ok=True)
        image.rename(other)
    dataset = open_dataset("mine", tmp_path)
    train, val = dataset.training_splits("official/test")
    assert train.name == "official/train"
    assert val is None
    assert set(train.ids) == {"im01", "im02", "im03"}
    assert dataset.split("official/test").ids == ("bim00",)
    assert {*dataset.split("some/train").ids, *dataset.split("some/test").ids} == {"im01", "im02", "im03"}
    assert [s.name for s in dataset.training_splits()] == ["train", "val"]
    with pytest.raises(DataError, match=r"the split 'official/rest' of mine has no image there .*official/test"):
        dataset.split("official/rest")


def test_listed_splits(tmp_path: Path, write_card: WriteCard, cells: NDArray[np.uint16], cards: Path):
    (cards / "mine-test.txt").write_text("# held out\nim03\nim01\nim77\n")
    path = write_card("mine")
    path.write_text(path.read_text() + '\n[schemes.paper]\nrule = "lists"\nsplits = { test = "mine-test.txt" }\n')
    write_images(tmp_path / "mine", 5, cells)
    dataset = open_dataset("mine", tmp_path)
    assert dataset.split("paper/test").ids == ("im01", "im03")
    assert dataset.notes == (f"{cards / 'mine-test.txt'}: 1 of its 3 images are not there",)


def test_splits_by_group(tmp_path: Path, write_card: WriteCard, cells: NDArray[np.uint16]):
    form = (
        '[format]\nname = "label_pairs"\nimages = ["images/{group}{frame}.png"]\nlabels = ["labels/{group}{frame}.png"]'
    )
    path = write_card("mine", format=form.replace("{group}{frame}", "{group}_{frame}"))
    path.write_text(path.read_text().replace("seed = 1", 'seed = 1\nby = "group"'))
    write_images(tmp_path / "mine", 12, cells)
    for image in sorted((tmp_path / "mine").rglob("*.png")):
        number = int(image.stem[2:])
        image.rename(image.with_name(f"film{number // 3}_{number}.png"))
    dataset = open_dataset("mine", tmp_path)
    groups = [{s.group for s in dataset.split(name)} for name in ("train", "val", "test")]
    assert [len(g) for g in groups] == [2, 1, 1]
    assert set.union(*groups) == {"film0", "film1", "film2", "film3"}
    assert {r.group for r in dataset.images()} == {"film0", "film1", "film2", "film3"}


def test_four_images_fill_every_split(tmp_path: Path, write_card: WriteCard, cells: NDArray[np.uint16]):
    write_card("mine")
    write_images(tmp_path / "mine", 3, cells)
    dataset = open_dataset("mine", tmp_path)
    assert [len(dataset.split(s)) for s in ("train", "val", "test")] == [1, 1, 1]


def test_a_dataset_and_its_splits_can_be_sent_to_another_process(mine: Path):
    dataset = open_dataset("mine", mine)
    split = pickle.loads(pickle.dumps(dataset)).split("train")
    assert split.ids == dataset.split("train").ids
    assert split[0].instances == dataset.split("train")[0].instances


def test_duplicates_are_told_and_dropped_if_wanted(mine: Path):
    whole = open_dataset("mine", mine)
    tested, trained = whole.split("test").ids[0], whole.split("train").ids
    for name in trained[:2]:
        for kind in ("images", "labels"):
            target = mine / "mine" / kind / f"{name}.png"
            target.write_bytes((mine / "mine" / kind / f"{tested}.png").read_bytes())
    dataset = open_dataset("mine", mine)
    assert dataset.duplicates() == (tuple(sorted((tested, *trained[:2]))),)
    assert len(dataset) == 8
    kept = open_dataset("mine", mine, drop_duplicates=True)
    assert len(kept) == 6
    assert tested in {r.key for r in kept.images()}
    assert kept.duplicates() == ()
    assert kept.notes == tuple(f"{name}: the same image as {tested}, left out" for name in trained[:2])
    assert kept.content_hash != dataset.content_hash


def test_splits_of_some_groups(tmp_path: Path, write_card: WriteCard, cells: NDArray[np.uint16]):
    form = """
        [format]
        name = "label_pairs"
        images = ["{part}/images/{group}_{n}.png"]
        labels = ["{part}/labels/{group}_{n}.png"]
    """
    path = write_card("mine", format=form)
    rule = 'rule = "parts"\nsplits = { train = ["train"], test = ["test"] }\n'
    path.write_text(path.read_text() + f'\n[schemes.hela]\n{rule}groups = ["hela"]\n')
    for part in ("train", "test"):
        write_images(tmp_path / "mine" / part, 4, cells)
        for image in sorted((tmp_path / "mine" / part).rglob("*.png")):
            number = int(image.stem[2:])
            image.rename(image.with_name(f"{('hela', 'ht29')[number % 2]}_{part}{number}.png"))
    dataset = open_dataset("mine", tmp_path)
    assert dataset.split("hela/test").ids == ("hela/test0", "hela/test2")
    assert [None if s is None else s.name for s in dataset.training_splits("hela/test")] == ["hela/train", None]


# -- versions ------------------------------------------------------------------------------------------


def test_the_version_is_the_content_not_the_place_nor_the_encoding(
    mine: Path, tmp_path: Path, cells: NDArray[np.uint16]
):
    here = open_dataset("mine", mine)
    write_images(tmp_path / "elsewhere" / "mine", 8, cells, ".tif")
    there = open_dataset("mine", tmp_path / "elsewhere")
    assert here.content_hash == there.content_hash
    assert here.images() == there.images()
    assert len(here.content_hash) == 64
    version = here.version
    assert (version.name, version.source, version.n_images, version.n_instances) == ("mine", "real", 8, 40)
    assert (version.classes, version.protocols, version.licence) == (("cell",), ("voc",), "CC0-1.0")
    assert version.card["format"]["name"] == "label_pairs"


@pytest.mark.parametrize("what", ["image", "truth", "another image", "class", "seed"])
def test_any_change_is_another_version(mine: Path, what: str, write_card: WriteCard, cards: Path):
    before = open_dataset("mine", mine).content_hash
    card = cards / "mine.toml"
    if what == "image":
        pixels = np.array(Image.open(mine / "mine" / "images" / "im03.png"))
        pixels[7, 7] ^= 1
        Image.fromarray(pixels).save(mine / "mine" / "images" / "im03.png")
    elif what == "truth":
        labels = np.array(Image.open(mine / "mine" / "labels" / "im03.png"))
        labels[0, 0] = 44
        Image.fromarray(labels).save(mine / "mine" / "labels" / "im03.png")
    elif what == "another image":
        for kind in ("images", "labels"):
            (mine / "mine" / kind / "im07.png").rename(mine / "mine" / kind / "im09.png")
    elif what == "class":
        card.write_text(card.read_text().replace('["cell"]', '["nucleus"]'))
    else:
        card.write_text(card.read_text().replace("seed = 1", "seed = 2"))
    assert open_dataset("mine", mine).content_hash != before


def test_a_scheme_without_an_image_is_no_change(mine: Path, cards: Path):
    before = open_dataset("mine", mine).content_hash
    card = cards / "mine.toml"
    card.write_text(card.read_text() + '\n[schemes.elsewhere]\nrule = "parts"\nsplits = { other = ["nowhere"] }\n')
    changed = open_dataset("mine", mine)
    assert "elsewhere/other" in changed.split_names
    assert changed.content_hash == before


def test_relabelling_is_no_change(mine: Path):
    before = open_dataset("mine", mine).content_hash
    path = mine / "mine" / "labels" / "im03.png"
    Image.fromarray(np.array(Image.open(path)) * 2).save(path)
    assert open_dataset("mine", mine).content_hash == before


def test_hashes_by_hand():
    image = np.arange(6, dtype=np.uint16).reshape(2, 3)
    import hashlib

    text = b"uint16 2x3\0" + bytes([0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0])
    assert pixel_hash(image) == hashlib.sha256(text).hexdigest()
    assert pixel_hash(image.astype(">u2")) == pixel_hash(image)
    assert pixel_hash(np.asfortranarray(image)) == pixel_hash(image)
    assert pixel_hash(image) != pixel_hash(image.astype(np.uint8))
    one = Instances.from_label_map(np.array([[1, 1, 0]]))
    assert truth_hash(one) == hashlib.sha256(b"1x3\n0 0 " + one.rles[0]).hexdigest()
    assert truth_hash(None) != truth_hash(Instances.empty(1, 3))


def test_object_sizes_of_the_card_come_first(tmp_path: Path, write_card: WriteCard, cells: NDArray[np.uint16]):
    path = write_card("mine")
    write_images(tmp_path / "mine", 4, cells)
    measured = open_dataset("mine", tmp_path).task.objects
    assert measured.per_image_max == 5
    path.write_text(
        path.read_text() + "\n[objects]\nsize_p05 = 1.0\nsize_median = 2\nsize_p95 = 3.0\naspect_p95 = 4.0\n"
        "per_image_median = 5.0\nper_image_max = 6\n"
    )
    assert open_dataset("mine", tmp_path).task.objects == ObjectStatistics(1.0, 2.0, 3.0, 4.0, 5.0, 6)


# -- the cache -----------------------------------------------------------------------------------------


class CountingProgress:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int, str]] = []

    def __call__(self, done: int, total: int, text: str) -> None:
        self.calls.append((done, total, text))


def test_files_are_read_once(mine: Path, tmp_path: Path):
    first, second, third = CountingProgress(), CountingProgress(), CountingProgress()
    opened = open_dataset("mine", mine, cache=tmp_path / "cache", progress=first)
    assert [c[:2] for c in first.calls] == [(i, 8) for i in range(1, 9)]
    again = open_dataset("mine", mine, cache=tmp_path / "cache", progress=second)
    assert second.calls == []
    assert again.images() == opened.images()
    assert again.task == opened.task
    path = mine / "mine" / "images" / "im02.png"
    Image.fromarray(255 - np.array(Image.open(path))).save(path)
    open_dataset("mine", mine, cache=tmp_path / "cache", progress=third)
    assert [c[:2] for c in third.calls] == [(1, 1)]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x82\xa6format\x63\xa6images\x90"])
def test_a_spoilt_cache_is_made_anew(mine: Path, tmp_path: Path, content: bytes):
    before = open_dataset("mine", mine, cache=tmp_path / "cache").content_hash
    for file in (tmp_path / "cache").rglob("*.*"):
        if file.is_file():
            file.write_bytes(content)
    assert open_dataset("mine", mine, cache=tmp_path / "cache").content_hash == before


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(mine: Path, tmp_path: Path):
    (tmp_path / "cache").write_text("a file, not a folder")
    assert open_dataset("mine", mine, cache=tmp_path / "cache").task.objects is not None


def test_a_broken_image_is_named_when_the_set_is_opened(mine: Path):
    path = mine / "mine" / "images" / "im05.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"images/im05\.png: not a readable image"):
        open_dataset("mine", mine)


# -- the stand-in --------------------------------------------------------------------------------------

STAND_IN = '\n[stand_in]\ngenerator = "neural"\nseed = 5\nparams = { train = 3, val = 1, test = 2 }\n'


@pytest.fixture
def imitated(write_card: WriteCard) -> str:
    """A data set of which there are no files, but a stand-in of six images."""
    path = write_card("mine")
    path.write_text(path.read_text() + STAND_IN)
    return "mine"


def test_a_stand_in_is_made_once(imitated: str, tmp_path: Path):
    progress, again = CountingProgress(), CountingProgress()
    dataset = open_dataset(imitated, tmp_path, progress=progress)
    assert dataset.source == "synthetic"
    assert dataset.folder.parent == tmp_path / "synthetic"
    assert [c[:2] for c in progress.calls if "generating" in c[2]] == [(i, 6) for i in range(1, 7)]
    assert len(dataset) == 6
    assert open_dataset(imitated, tmp_path, progress=again).content_hash == dataset.content_hash
    assert again.calls == []
    assert dataset.version.licence == "generated by this project"


def test_real_files_and_stand_in_are_two_versions(imitated: str, tmp_path: Path):
    synthetic = open_dataset(imitated, tmp_path)
    for kind in ("images", "labels"):
        target = tmp_path / "mine" / kind
        target.mkdir(parents=True)
        for file in synthetic.folder.glob(f"*/{kind}/*.png"):
            (target / file.name).write_bytes(file.read_bytes())
    real = open_dataset(imitated, tmp_path)
    assert real.source == "real"
    assert [r.sha256 for r in real.images()] == [r.sha256 for r in synthetic.images()]
    assert real.content_hash != synthetic.content_hash
    assert open_dataset(imitated, tmp_path, stand_in=True).content_hash == synthetic.content_hash


@pytest.mark.parametrize("lost", ["stand_in.json", "train/images/train000_001.png", "test/labels/test000_000.png"])
def test_a_half_made_stand_in_is_completed(imitated: str, tmp_path: Path, lost: str):
    whole = open_dataset(imitated, tmp_path)
    files = {p: p.read_bytes() for p in whole.folder.rglob("*.png")}
    (whole.folder / lost).unlink()
    progress = CountingProgress()
    assert open_dataset(imitated, tmp_path, progress=progress).content_hash == whole.content_hash
    assert {p: p.read_bytes() for p in whole.folder.rglob("*.png")} == files
    assert len([c for c in progress.calls if "generating" in c[2]]) == (0 if lost == "stand_in.json" else 1)


def test_a_read_only_data_root_sends_the_stand_in_to_the_cache(imitated: str, tmp_path: Path):
    root = tmp_path / "root"
    root.mkdir(mode=0o555)
    dataset = open_dataset(imitated, root, cache=tmp_path / "cache")
    assert dataset.folder.parent == tmp_path / "cache" / "synthetic"
    assert list(root.iterdir()) == []


def test_nowhere_to_write_the_stand_in(imitated: str, tmp_path: Path):
    (tmp_path / "root").mkdir(mode=0o555)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match=r"root/synthetic/.*: cannot be written: the folder is read-only") as caught:
        open_dataset(imitated, tmp_path / "root", cache=tmp_path / "cache")
    assert caught.value.exit_code == 7
