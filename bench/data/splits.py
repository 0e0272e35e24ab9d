"""Who is in which split: seeded rules, exact enough to be repeated in any language.

**The order.** The units of a data set (image ids, or group names) are sorted by the 64 hexadecimal digits of
``sha256(f"{seed}:{unit}")``, the text encoded as UTF-8; equal digests cannot occur for different units.

**The shares.** With weights ``w_1 .. w_k`` (counts, or fractions, which in a card sum to 1: only their proportion
matters) and ``n`` units, split ``i`` first gets ``floor(n * w_i / sum(w))``. What is left goes, one each, to the
largest remainders ``n * w_i mod sum(w)``; of equal remainders to the split named first. Weights are read as the
decimal numbers written in the card, so that there is no rounding in this. Then, while a split has none and another has
more than one, the largest (of equals the one named first) gives it one.

**The assignment.** The first split takes the first units of the order, the second the next ones, and so on. Inside a
split the images are sorted by id.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from bench.errors import DataError


def seeded_order(units: Iterable[str], seed: int) -> list[str]:
    """``units``, each once, in the order that ``seed`` gives them."""
    return sorted(set(units), key=lambda unit: hashlib.sha256(f"{seed}:{unit}".encode()).hexdigest())


def shares(count: int, weights: Sequence[float]) -> list[int]:
    """How many of ``count`` units each split gets.

    Args:
        count: units to share out.
        weights: one for each split, positive.

    Returns:
        whole numbers that sum to ``count``; none is 0 where there are at least as many units as splits.
    """
    exact = [Fraction(str(w)) for w in weights]
    total = sum(exact)
    quotas = [count * w / total for w in exact]
    result = [int(q) for q in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda i: (result[i] - quotas[i], i))
    for i in by_remainder[: count - sum(result)]:
        result[i] += 1
    while 0 in result and max(result) > 1:
        result[result.index(max(result))] -= 1
        result[result.index(0)] += 1
    return result


def seeded_splits(
    ids: Iterable[str], weights: Mapping[str, float], seed: int, groups: Mapping[str, str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Share images out over splits by the rule above.

    Args:
        ids: the images, in any order.
        weights: split -> fraction or count, in the order of the splits.
        seed: of the order.
        groups: image id -> group; images of one group stay together, and the shares are then shares of groups.
            None shares out single images.

    Returns:
        split -> ids, sorted.
    """
    ids = sorted(set(ids))
    unit_of = {i: i if groups is None else groups[i] for i in ids}
    order = seeded_order(unit_of.values(), seed)
    split_of: dict[str, str] = {}
    start = 0
    for name, share in zip(weights, shares(len(order), list(weights.values())), strict=True):
        split_of.update(dict.fromkeys(order[start : start + share], name))
        start += share
    result: dict[str, list[str]] = {name: [] for name in weights}
    for i in ids:
        result[split_of[unit_of[i]]].append(i)
    return {name: tuple(members) for name, members in result.items()}


def seeded_subset(ids: Sequence[str], count: int, seed: int = 0) -> tuple[str, ...]:
    """The first ``count`` of ``ids`` in the order of ``seed``, given back in the order of ``ids``."""
    chosen = set(seeded_order(ids, seed)[:count])
    return tuple(i for i in ids if i in chosen)


def read_list(path: Path) -> tuple[str, ...]:
    """The image ids of a split file: one a line, ``#`` begins a comment line, blank lines count for nothing.

    Raises:
        DataError: the file cannot be read, or an id comes twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of images: {error}") from error
    ids = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if twice := [i for i, n in Counter(ids).items() if n > 1]:
        raise DataError(f"{path}: the image {twice[0]!r} stands there twice")
    return tuple(ids)
