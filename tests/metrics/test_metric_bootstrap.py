"""Intervals against resampling done by hand, and the comparison of runs."""

import dataclasses

import numpy as np
import pytest

from bench.api import DataError, Instances, UsageError
from bench.metrics import compare, score
from bench.metrics.bootstrap import interval, resample_weights
from bench.metrics.curves import Curve, Ranking, coco_points, eleven_points

PARAMS = {"voc": {}, "coco": {}, "kaggle": {}, "ctc": {}, "semantic": {}, "touching": {}, "panoptic": {}}


def cells(seed, *, noise=2.0, count=12, shape=(60, 60)):
    """A truth of discs and a prediction of the same, moved about by ``noise`` pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centres = rng.uniform(5, 55, (count, 2))
    radii = rng.uniform(3, 8, count)

    def discs(at):
        return np.array([(rows - y) ** 2 + (columns - x) ** 2 <= r * r for (y, x), r in zip(at, radii, strict=True)])

    truth = Instances.from_masks(discs(centres), class_ids=np.arange(count) % 2)
    moved = discs(centres + rng.normal(0, noise, centres.shape))
    kept = moved.any(axis=(1, 2)) & (rng.random(count) < 0.9)
    return truth, Instances.from_masks(moved[kept], class_ids=np.arange(count)[kept] % 2, scores=rng.random(kept.sum()))


def test_a_resample_is_the_score_of_the_images_it_drew():
    """Every metric of every protocol: weights must do what repeating the images does."""
    pairs = [cells(seed) for seed in range(5)]
    classes = ("a", "b")
    base = score([t for t, _ in pairs], [p for _, p in pairs], PARAMS, classes=classes, intervals=False)
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 0, 2], [0, 0, 0, 5, 0], [0, 3, 0, 1, 1]])
    for row, counts in enumerate(weights.tolist()):
        drawn = [pairs[i] for i, n in enumerate(counts) for _ in range(n)]
        expected = score([t for t, _ in drawn], [p for _, p in drawn], PARAMS, classes=classes, intervals=False)
        for name, scores in expected.protocols.items():
            found = base.evidence.pools[name].resampled(weights)
            for result in scores.results:
                value = found[result.metric][row]
                if result.value is None:
                    assert np.isnan(value), (name, result.metric)
                else:
                    assert value == pytest.approx(result.value, abs=1e-9), (name, result.metric, counts)


@pytest.mark.parametrize("needs", [coco_points, eleven_points])
def test_many_resamples_at_once_are_those_one_by_one(needs):
    rng = np.random.default_rng(3)
    image = rng.integers(0, 7, 400)
    verdict = rng.random(400)
    curves = [
        Curve(None, np.flatnonzero(verdict < 0.6), np.full(7, 50)),
        Curve(np.flatnonzero(verdict > 0.3), np.flatnonzero(verdict[verdict > 0.3] < 0.5), np.arange(7) * 9),
        Curve(None, np.zeros(0, np.int64), np.full(7, 3)),
        Curve(None, np.flatnonzero(verdict < 0.2), np.zeros(7, np.int64)),
    ]
    ranking = Ranking(image, curves)
    weights = rng.multinomial(7, np.full(7, 1 / 7), size=40)
    means, areas = ranking.resampled(weights, needs, area=True)
    for row in range(40):
        one = ranking.resampled(weights[row : row + 1], needs, area=True)
        assert np.array_equal(means[:, row], one[0][:, 0], equal_nan=True)
        assert np.allclose(areas[:, row], one[1][:, 0], equal_nan=True)
    once = ranking.resampled(np.ones((1, 7), np.int64), needs, area=True)
    assert once[0][0, 0] == pytest.approx(curves[0].levels(needs).mean())
    assert once[1][0, 0] == pytest.approx(curves[0].area())


def test_coco_levels_are_reached_when_floats_say_so():
    levels = np.linspace(0, 1, 101)
    for total in (1, 2, 3, 7, 20, 100, 1000, 29_442):
        recalls = np.arange(total + 1) / total
        assert coco_points(np.array([total]))[0].tolist() == np.searchsorted(recalls, levels, side="left").tolist()


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Means of 25 images drawn from a known distribution: 95 % intervals cover it most of the time."""
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        values = rng.beta(2, 3, 25)
        weights = resample_weights([str(i) for i in range(25)], 400, trial)
        low, high = interval(weights @ values / 25)
        covered += low <= 0.4 <= high
    assert 0.87 <= covered / 200 <= 0.99


def test_groups_are_drawn_together():
    weights = resample_weights(["a", "a", "b", "c", "c", "c", "d", "e"], 500, 0)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert (weights[:, [0, 2, 3, 6, 7]].sum(axis=1) == 5).all()


def test_too_few_groups_are_no_sample_of_groups():
    """Two sequences redrawn give three outcomes; their images are redrawn instead."""
    few, alone = resample_weights(["a", "a", "b", "b"], 200, 3), resample_weights(["1", "2", "3", "4"], 200, 3)
    assert np.array_equal(few, alone)
    assert (few.sum(axis=1) == 4).all()


def test_the_draw_does_not_depend_on_names():
    assert np.array_equal(resample_weights(list("zamqb"), 50, 1), resample_weights(list("12345"), 50, 1))


def test_groups_widen_the_interval():
    pairs = [cells(seed, noise=0.5 if seed < 6 else 4.0) for seed in range(12)]
    truths, predictions = [t for t, _ in pairs], [p for _, p in pairs]
    alone = score(truths, predictions, ["kaggle"]).protocols["kaggle"].results[0]
    grouped = (
        score(truths, predictions, ["kaggle"], groups=[f"dish {i // 2}" for i in range(12)])
        .protocols["kaggle"]
        .results[0]
    )
    assert alone.value == grouped.value
    assert grouped.high - grouped.low > 1.2 * (alone.high - alone.low)


def test_one_image_says_nothing_of_the_spread():
    truth, found = cells(0)
    result = score([truth], [found], ["kaggle"]).protocols["kaggle"].results[0]
    assert result.low is result.high is None
    assert resample_weights(["a"], 10, 0) is None


def test_intervals_are_the_same_for_the_same_seed_and_hold_the_value():
    pairs = [cells(seed) for seed in range(8)]
    truths, predictions = [t for t, _ in pairs], [p for _, p in pairs]
    one, two, other = (score(truths, predictions, "voc,kaggle,ctc", seed=s, resamples=300) for s in (0, 0, 1))
    assert one.protocols == two.protocols
    assert one.protocols != other.protocols
    for each in one.protocols.values():
        for result in each.results:
            assert result.low - 0.02 <= result.value <= result.high + 0.02


def test_too_few_defined_resamples_give_no_interval():
    assert interval(np.array([np.nan] * 20 + [0.5] * 80)) == (None, None)
    assert interval(np.array([np.nan] * 5 + [0.5] * 95)) == (0.5, 0.5)


# -- comparing runs -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs():
    """Three methods on 16 images: two hardly different, one clearly worse; and one that is the first again."""
    truths = [cells(seed)[0] for seed in range(16)]

    def run(noise, seed):
        return score(
            truths, [cells(s, noise=noise)[1] for s in range(seed, seed + 16)], ["voc", "kaggle"], intervals=False
        )

    return {"good": run(0.5, 0), "again": run(0.5, 0), "close": run(0.55, 0), "bad": run(3.0, 0)}


@pytest.mark.parametrize(("images", "told"), [(2, False), (4, False), (5, True)])
def test_a_few_images_tell_no_runs_apart(images, told):
    pairs = [cells(seed, noise=0.5) for seed in range(images)]
    good = score([t for t, _ in pairs], [p for _, p in pairs], ["kaggle"], intervals=False)
    none = score([t for t, _ in pairs], [Instances.empty(t.height, t.width) for t, _ in pairs], ["kaggle"])
    (difference,) = compare({"good": good, "none": none}, "kaggle").differences
    assert difference.difference > 0
    assert difference.distinct is told
    assert (difference.p is not None) is (difference.low is not None) is told


@pytest.mark.parametrize("protocol", ["voc", "kaggle"])
def test_compare(runs, protocol):
    result = compare(runs, protocol, resamples=500)
    found = {(d.first, d.second): d for d in result.differences}
    assert len(found) == 6
    same = found["good", "again"]
    assert (same.difference, same.low, same.high, same.p, same.p_holm) == (0, 0, 0, 1, 1)
    worse = found["good", "bad"]
    assert worse.low < worse.difference < worse.high
    assert worse.low > 0.1
    assert worse.p == pytest.approx(2 / 501)
    assert worse.p <= worse.p_holm <= 6 * worse.p + 1e-12
    assert result.ranks["good"] == result.ranks["again"] == 1
    assert result.ranks["bad"] == 4
    assert result.values["good"] == runs["good"].protocols[protocol].results[0].value


def test_pairing_is_what_makes_close_runs_comparable(runs):
    """The interval of a difference is much narrower than the two intervals apart would suggest."""
    close = next(d for d in compare(runs, "kaggle").differences if (d.first, d.second) == ("good", "close"))
    weights = resample_weights([str(i) for i in range(16)], 1000, 0)
    alone = runs["good"].evidence.pools["kaggle"].resampled(weights)["mAP@.5:.95"]
    assert close.high - close.low < (np.quantile(alone, 0.975) - np.quantile(alone, 0.025))


def test_holm_by_hand():
    from bench.metrics.compare import Difference, _holm

    given = [Difference(str(i), "", 0.0, 0.0, 0.0, p, None) for i, p in enumerate([0.01, 0.04, 0.03, None, 0.005])]
    assert [d.p_holm for d in _holm(given)] == pytest.approx([0.03, 0.06, 0.06, None, 0.02])


def test_undefined_values_have_no_rank(runs):
    truths = [cells(seed)[0] for seed in range(16)]
    bare = [Instances(t.height, t.width, t.rles) for t in truths]
    unscored = score(truths, bare, ["voc", "kaggle"], intervals=False)
    result = compare({**runs, "bare": unscored}, "voc")
    assert result.ranks["bare"] is None
    assert result.values["bare"] is None
    assert compare({**runs, "bare": unscored}, "kaggle").ranks["bare"] == 1


def test_what_cannot_be_compared(runs):
    with pytest.raises(UsageError, match="two runs"):
        compare({"a": runs["good"]}, "voc")
    with pytest.raises(UsageError, match="not scored by protocol coco"):
        compare(runs, "coco")
    with pytest.raises(UsageError, match="no metric 'AP50'"):
        compare(runs, "voc", "AP50")
    truths = [cells(seed)[0] for seed in range(15)]
    fewer = score(truths, [cells(seed)[1] for seed in range(15)], ["voc"], intervals=False)
    with pytest.raises(DataError, match="different images, such as 15"):
        compare({"a": runs["good"], "b": fewer}, "voc")
    truths = [cells(seed)[0] for seed in range(16)]
    other = score(truths, [cells(s)[1] for s in range(16)], {"voc": {"strict": False}}, intervals=False)
    with pytest.raises(DataError, match="different rules"):
        compare({"a": runs["good"], "b": other}, "voc")


def test_scores_are_plain_values(runs):
    result = runs["good"].protocols["voc"].results[0]
    assert dataclasses.asdict(result)["metric"] == "AP@0.5"
    assert type(result.value) is float
