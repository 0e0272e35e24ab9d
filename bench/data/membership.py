"""Who is in which split of a card, and which of several equal images stays."""

from __future__ import annotations

from collections.abc import Mapping

from bench.data import splits
from bench.data.cards import Card, ListRule, PartsRule, SeededRule
from bench.data.readers import Index


def members(card: Card, index: Index) -> tuple[dict[str, dict[str, tuple[str, ...]]], list[str]]:
    """Who is in which split of a card.

    Returns:
        scheme -> split -> ids, and a note for each list of which images are not there.
    """
    notes: list[str] = []
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for scheme, rule in card.schemes.items():
        match rule:
            case PartsRule():
                chosen = [e for e in index.entries if not rule.groups or e.group in rule.groups]
                found[scheme] = {
                    split: tuple(e.id for e in chosen if e.part in parts) for split, parts in rule.splits.items()
                }
            case SeededRule():
                besides = {part for parts in rule.whole.values() for part in parts}
                chosen = [e for e in index.entries if (e.part in rule.parts if rule.parts else e.part not in besides)]
                groups = {e.id: e.group or e.id for e in chosen} if rule.by == "group" else None
                found[scheme] = splits.seeded_splits([e.id for e in chosen], rule.splits, rule.seed, groups)
                for split, parts in rule.whole.items():
                    found[scheme][split] = tuple(e.id for e in index.entries if e.part in parts)
            case ListRule():
                here = {e.id for e in index.entries}
                found[scheme] = {}
                for split, file in rule.splits.items():
                    listed = splits.read_list(card.path.parent / file)
                    found[scheme][split] = tuple(sorted(here & set(listed)))
                    if absent := len(set(listed) - here):
                        notes.append(f"{card.path.parent / file}: {absent} of its {len(listed)} images are not there")
    return found, notes


def superfluous(card: Card, index: Index, pixels: Mapping[str, str]) -> dict[str, str]:
    """Images of which there is an equal one that stays.

    Of several images with the same pixels one stays: that in the split which the card evaluates on, else that in the
    split ``val``, else the first by id. Images that no scheme uses together (a frame with its gold and with its silver
    truth) are not in each other's way, and stay.

    Args:
        card: of the data set.
        index: its images.
        pixels: id -> hash of the image.

    Returns:
        id of an image to leave out -> id of the one that stays.
    """
    found, _ = members(card, index)
    default = found[card.default_scheme]
    order = {i: rank for rank, split in enumerate((card.evaluate, "val")) for i in default.get(split, ())}
    schemes: dict[str, set[str]] = {image: set() for image in pixels}
    for scheme, its in found.items():
        for image in (i for ids in its.values() for i in ids if i in schemes):
            schemes[image].add(scheme)
    kept: dict[str, list[str]] = {}
    dropped: dict[str, str] = {}
    for image in sorted(pixels, key=lambda i: (order.get(i, len(order)), i)):
        equal = kept.setdefault(pixels[image], [])
        same = next((other for other in equal if schemes[image] & schemes[other]), None)
        if same is None:
            equal.append(image)
        else:
            dropped[image] = same
    return dropped
