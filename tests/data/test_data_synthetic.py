"""Stand-ins: the same bytes always, believable in size and number, and not solved by a threshold."""

from __future__ import annotations

import hashlib
import io
import itertools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from bench.data import open_dataset, synthetic
from bench.data.cards import load_card
from bench.data.synthetic import _exact, make_generator
from bench.data.synthetic._paint import tidy
from bench.data.synthetic._shapes import GRID, Rod, Warp, cover, curve, draw, tip
from bench.errors import DataError, OutputError

SHAPE = (80, 90)
STILL = Warp(np.zeros(SHAPE, np.int32), np.zeros(SHAPE, np.int32))


def generator(name: str = "neural", seed: int = 2018, **params: int) -> synthetic.Generator:
    return make_generator(name, seed, params, Path("card.toml"))


# -- exact arithmetic ----------------------------------------------------------------------------------


def test_no_rounding_of_a_sine_hangs_on_the_last_bits_of_a_library():
    for i in range(_exact.TURN):
        value = math.sin(2 * math.pi * i / _exact.TURN) * _exact.UNIT
        assert abs(value - math.floor(value) - 0.5) > 1e-6
        assert abs(_exact.sine(i) - value) <= 0.5
    assert _exact.sine(256 + 1024) == _exact.cosine(0) == _exact.UNIT


def test_draws_are_these_numbers_and_no_others():
    draws = _exact.Draws("a test")
    assert [draws.integer(0, 999) for _ in range(4)] == [55, 173, 469, 386]
    assert draws.integers(-5, 5, (2, 4)).tolist() == [[2, -3, -3, -4], [-4, -3, 4, 4]]
    assert hashlib.sha256(draws.noise((16, 16)).astype("<i4").tobytes()).hexdigest()[:16] == "c8262f886d283172"


def test_draws_keep_their_bounds_and_reach_them():
    draws = _exact.Draws("bounds")
    values = draws.integers(3, 9, 5000)
    assert (values.min(), values.max()) == (3, 9)
    assert np.bincount(values)[3:].min() > 500
    assert {draws.integer(3, 9) for _ in range(300)} == set(range(3, 10))
    assert [draws.pick((0, 1, 0)) for _ in range(20)] == [1] * 20
    assert 100 < sum(draws.chance(30) for _ in range(500)) < 200
    noise = draws.noise((200, 200))
    assert abs(noise.mean()) < 0.1
    assert noise.var() == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize("radius", [1, 2, 3, 6])
def test_blur_is_a_mean_over_squares(radius: int):
    field = _exact.Draws("blur").integers(-500, 500, (31, 44))
    expected = ndimage.uniform_filter(field.astype(np.float64), 2 * radius + 1, mode="nearest")
    assert np.abs(_exact.blur(field, radius, 1) - expected).max() <= 0.5 + 1e-9
    twice = ndimage.uniform_filter(expected, 2 * radius + 1, mode="nearest")
    assert np.abs(_exact.blur(field, radius, 2) - twice).max() <= 1.01


@pytest.mark.parametrize(("doublings", "most"), [(1, 2000), (2, 2000), (3, 2000), (4, 2000)])
def test_a_tent_is_two_means_one_after_the_other(doublings: int, most: int):
    field = _exact.Draws("tent").integers(-most, most, (31, 44))
    weights = np.convolve(np.full(1 << doublings, 0.5**doublings), np.full(1 << doublings, 0.5**doublings))
    expected = field.astype(np.float64)
    for axis in (0, 1):
        expected = ndimage.convolve1d(expected, weights, axis, mode="nearest")
    assert np.abs(_exact.tent(field.astype(np.int16), doublings) - expected).max() <= 2.01


def test_smooth_noise_is_the_same_where_it_needs_wider_numbers():
    narrow, wide = (_exact.smooth_noise(_exact.Draws("wide"), (60, 50), 40, most) for most in (400, 800))
    assert np.abs(wide - 2 * narrow).max() <= 3
    assert np.abs(wide).max() > 400


def test_smooth_noise_is_smooth_and_bounded():
    noise = _exact.smooth_noise(_exact.Draws("smooth"), (70, 90), 16, 100)
    assert noise.shape == (70, 90)
    assert 50 < np.abs(noise).max() <= 100
    assert np.abs(np.diff(noise, axis=0)).max() <= 2 * 100 / 16 + 1
    assert np.abs(np.diff(noise, axis=1)).max() <= 2 * 100 / 16 + 1


# -- shapes --------------------------------------------------------------------------------------------


def test_a_rod_is_the_pixels_within_its_radius():
    canvas = draw([Rod(20 * GRID, 30 * GRID, 40, 50 * GRID, 60 * GRID, 40, 1000)], SHAPE, STILL)
    found = np.zeros(SHAPE, np.bool_)
    found[canvas.slices] = canvas.thickness > 0
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    foot = np.clip(((rows - 20) * 30 + (columns - 30) * 30) / 1800, 0, 1)
    distance = np.hypot(rows - 20 - foot * 30, columns - 30 - foot * 30)
    assert found[distance < 4.8].all()
    assert not found[distance > 5.2].any()
    assert canvas.thickness.max() == pytest.approx(1000, abs=10)


def test_rods_are_cut_off_at_the_image():
    assert draw([Rod(-99 * GRID, 5, 20, -80 * GRID, 5, 20, 9)], SHAPE, STILL) is None
    canvas = draw([Rod(0, 0, 80, 0, 0, 80, 9), Rod(-99 * GRID, 5, 20, -80 * GRID, 5, 20, 9)], SHAPE, STILL)
    assert (canvas.top, canvas.left) == (0, 0)


def test_a_warp_moves_outlines_up_to_the_border():
    shape = (38, 43)
    rows, columns = (_exact.smooth_noise(_exact.Draws(text), shape, 6, 40) for text in ("rows", "columns"))
    rods = [
        Rod(40, 300, 30, 200, 340, 12, 300),
        Rod(290, 10, 50, 290, 90, 20, 90, 3),
        Rod(150, 150, 60, 150, 150, 60, 40),
    ]
    which, places, heights = cover(rods, shape, Warp(rows, columns))
    assert heights.min() > 0
    for index, rod in enumerate(rods):
        found = np.zeros(shape, np.int32)
        found.reshape(-1)[places[which == index]] = heights[which == index]
        y = np.arange(shape[0])[:, None] * GRID + rows - rod.y0
        x = np.arange(shape[1]) * GRID + columns - rod.x0
        along_y, along_x = rod.y1 - rod.y0, rod.x1 - rod.x0
        foot = np.clip((y * along_y + x * along_x) / max(along_y**2 + along_x**2, 1), 0, 1)
        distance = np.hypot(y - foot * along_y, x - foot * along_x)
        radius = rod.radius0 + foot * (rod.radius1 - rod.radius0)
        expected = np.minimum((1 - (distance / radius) ** 2) * rod.flatness, 1) * rod.thickness
        off = np.abs(found - np.maximum(expected, 0))
        assert off.max() <= 0.2 * rod.thickness
        assert off.mean() <= 0.01 * rod.thickness
        assert (found > 0).sum() == pytest.approx((expected > 0).sum(), rel=0.05)


@given(
    arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3)), st.integers(1, 6)
)
def test_tidying_keeps_the_largest_piece_of_each_body(labels: NDArray[np.uint16], smallest: int):
    expected = np.zeros_like(labels)
    number = 0
    for body in np.unique(labels[labels > 0]):
        pieces, _ = ndimage.label(labels == body)
        sizes = np.bincount(pieces.ravel())[1:]
        if sizes.max() >= smallest:
            number += 1
            expected[pieces == sizes.argmax() + 1] = number
    found = tidy(labels, smallest)
    assert found.dtype == labels.dtype
    assert np.array_equal(found, expected)


def test_a_curve_becomes_thinner_and_hangs_together():
    rods = curve((30 * GRID, 20 * GRID), 0, 100, 300, (40, 8), (200, 50), pieces=5)
    assert [r.radius1 for r in rods] == sorted((r.radius1 for r in rods), reverse=True)
    assert all((a.y1, a.x1) == (b.y0, b.x0) for a, b in itertools.pairwise(rods))
    assert tip(rods) == (rods[-1].y1, rods[-1].x1)
    canvas = draw(rods, SHAPE, STILL)
    assert ndimage.label(canvas.thickness > 0, np.ones((3, 3)))[1] == 1


# -- the neural stand-in -------------------------------------------------------------------------------


def test_the_neural_stand_in_has_the_papers_numbers():
    card = load_card("neural")
    plan = generator(seed=card.stand_in.seed, **card.stand_in.params).plan()
    parts = [item.part for item in plan]
    assert [parts.count(p) for p in ("train", "val", "test")] == [386, 129, 129]
    assert len({item.stem for item in plan}) == 644
    of = {part: {i.group for i in plan if i.part == part} for part in ("train", "val", "test")}
    assert not of["train"] & of["val"] | of["train"] & of["test"] | of["val"] & of["test"]
    assert all(sum(i.group == g for i in plan) <= 6 for g in of["test"])


@pytest.fixture(scope="module")
def pictures() -> list[tuple[NDArray[np.uint8], NDArray[np.uint16]]]:
    made = generator()
    return [(p.image, p.labels["cell"]) for p in (made.make(item) for item in made.plan()[3:400:80])]


def test_the_neural_images(pictures: list[tuple[NDArray[np.uint8], NDArray[np.uint16]]]):
    for image, labels in pictures:
        assert (image.shape, image.dtype) == ((512, 640), np.uint8)
        assert (labels.shape, labels.dtype) == ((512, 640), np.uint16)
        assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
        for cell in range(1, labels.max() + 1):
            assert ndimage.label(labels == cell)[1] == 1
            assert (labels == cell).sum() >= 40
    counts = [int(labels.max()) for _, labels in pictures]
    assert min(counts) >= 3
    assert max(counts) <= 34
    assert 60 < np.mean([image.mean() for image, _ in pictures]) < 180


def test_cells_touch_and_have_thin_parts(pictures: list[tuple[NDArray[np.uint8], NDArray[np.uint16]]]):
    touching = thin = total = 0
    for _, labels in pictures:
        for cell in range(1, labels.max() + 1):
            mask = labels == cell
            ring = ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=2) & ~mask
            touching += bool(labels[ring].any())
            core = ndimage.binary_opening(mask, np.ones((7, 7)))
            thin += (mask & ~core).sum() > 0.1 * mask.sum()
            total += 1
    assert 0.2 < touching / total < 0.95
    assert thin / total > 0.4


def f1(labels: NDArray[np.integer], found: NDArray[np.integer]) -> float:
    """F1 at IoU > .5, the objects that found and true regions agree on."""
    n, m = int(labels.max()), int(found.max())
    table = np.bincount((labels.astype(np.int64) * (m + 1) + found).ravel(), minlength=(n + 1) * (m + 1))
    table = table.reshape(n + 1, m + 1)
    union = table.sum(1)[1:, None] + table.sum(0)[None, 1:] - table[1:, 1:]
    return 2 * int((2 * table[1:, 1:] > union).sum()) / max(n + m, 1)


def test_no_threshold_solves_it(pictures: list[tuple[NDArray[np.uint8], NDArray[np.uint16]]]):
    best = 0.0
    for sign in (-1, 1):
        for sigma in (0, 1):
            for level in (4, 8, 12, 20, 30):
                scores = []
                for image, labels in pictures:
                    difference = sign * (image.astype(np.float64) - np.median(image))
                    smooth = ndimage.gaussian_filter(difference, sigma) if sigma else difference
                    regions, _ = ndimage.label(ndimage.binary_fill_holes(smooth > level))
                    sizes = np.bincount(regions.ravel())
                    sizes[0] = 0
                    kept = np.cumsum(sizes >= 60) * (sizes >= 60)
                    scores.append(f1(labels, kept[regions]))
                best = max(best, float(np.mean(scores)))
    assert best < 0.45


def test_frames_of_a_sequence_show_the_same_cells_moving():
    made = generator()
    first, second = (made.make(item).labels["cell"] for item in made.plan()[6:8])
    assert not np.array_equal(first, second)
    both = (first > 0) & (second > 0)
    assert both.sum() > 0.5 * (first > 0).sum()


def test_another_seed_is_another_image():
    item = generator().plan()[0]
    assert not np.array_equal(generator(seed=1).make(item).image, generator(seed=2).make(item).image)


# -- made on disk --------------------------------------------------------------------------------------


@pytest.fixture
def card(write_card: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(synthetic, "_WORTH_A_PROCESS", 2)
    path = write_card("mine")
    path.write_text(
        path.read_text() + '\n[stand_in]\ngenerator = "neural"\nseed = 5\nparams = { train = 8, val = 0, test = 0 }\n'
    )
    return path


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.png"))
    }


def test_several_processes_make_the_same_files_as_one(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(synthetic, "processors", lambda: 1)
    one = open_dataset("mine", tmp_path / "one", stand_in=True).folder
    monkeypatch.setattr(synthetic, "processors", lambda: 3)
    three = open_dataset("mine", tmp_path / "three", stand_in=True).folder
    assert len(digests(one)) == 16
    assert digests(one) == digests(three)


def test_processes_follow_the_parameters_they_are_given_not_those_of_the_file(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(synthetic, "processors", lambda: 2)
    loaded = load_card("mine")
    fewer = {"train": 4, "val": 1, "test": 0}
    loaded = msgspec.structs.replace(loaded, stand_in=msgspec.structs.replace(loaded.stand_in, params=fewer))
    folder, count = synthetic.generate(loaded, tmp_path, seed=6)
    assert count == 5
    assert len(digests(folder)) == 10


def test_a_kill_half_way_is_gone_on_with(card: Path, tmp_path: Path):
    code = f"from bench.data import *; from pathlib import Path; open_dataset('mine', Path({str(tmp_path)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ, start_new_session=True)
    folder = tmp_path / "synthetic" / synthetic.folder_name(load_card("mine"), generator("neural", 5))
    deadline = time.monotonic() + 60
    while not any(folder.rglob("train*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    made = digests(folder)
    assert 0 < len(made) < 16
    assert not (folder / synthetic.MARKER).exists()
    assert len(open_dataset("mine", tmp_path)) == 8
    after = digests(folder)
    assert len(after) == 16
    assert made.items() <= after.items()


def test_a_full_disk_is_one_clear_error(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "processors", lambda: 1)
    really = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", **more: Full() if mode == "wb" else really(self, mode, **more)
    )
    with pytest.raises(OutputError, match=r"train000_000\.png: cannot be written: No space left on device"):
        open_dataset("mine", tmp_path)
    assert not list((tmp_path / "synthetic").rglob("*.png"))


def test_an_error_in_a_process_is_told(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(synthetic, "processors", lambda: 2)
    loaded = load_card("mine")
    target = tmp_path / "synthetic" / synthetic.folder_name(loaded, generator("neural", 5))
    target.mkdir(parents=True)
    (target / "train").write_text("a file where a folder must go")
    with pytest.raises(OutputError, match=r"train/images/train.*\.png: cannot be written"):
        open_dataset("mine", tmp_path)


def test_faults_of_a_stand_in_table(card: Path):
    with pytest.raises(DataError, match=r"card\.toml: stand_in\.generator: unknown generator 'neurl' .*neural"):
        make_generator("neurl", 0, {}, Path("card.toml"))
    with pytest.raises(DataError, match=r"card\.toml: stand_in\.params\.trains: unknown key"):
        make_generator("neural", 0, {"trains": 3}, Path("card.toml"))
