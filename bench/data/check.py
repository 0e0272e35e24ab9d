"""Is a data set what its card says? Every image read, counted, and compared; leaks between splits by content."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from bench import rle
from bench.data.dataset import Dataset, open_dataset
from bench.data.readers.base import CUT_OFF
from bench.data.readers.prepared import read_index, verify
from bench.data.scan import Progress
from bench.data.sheet import contact_sheet
from bench.errors import BenchError, DataError
from bench.instances import Instances, Sample

Level = Literal["ok", "note", "problem"]
TINY = 4
"""Instances of so few pixels or less are told: hardly anything is that small."""
_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``ok``, worth a ``note``, or a ``problem``; and the images it is about."""

    level: Level
    topic: str
    text: str
    images: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(self.images[:_SHOWN]) + (", …" if len(self.images) > _SHOWN else "")
        return f"{self.topic}: {self.text}" + (f" ({shown})" if shown else "")


@dataclass(frozen=True)
class SplitSummary:
    """A split in numbers: images, instances, and the least, median and greatest count of instances an image."""

    name: str
    images: int
    annotated: int
    instances: int
    least: int
    median: float
    most: int


@dataclass(frozen=True)
class Report:
    """What :func:`check` found.

    Attributes:
        name: of the data set.
        title: of the data set.
        source: real or synthetic.
        folder: where its files lie.
        version: the content hash.
        findings: in the order in which they were looked at.
        splits: of all schemes.
    """

    name: str
    title: str
    source: str
    folder: str
    version: str
    findings: tuple[Finding, ...]
    splits: tuple[SplitSummary, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that are problems."""
        return tuple(f for f in self.findings if f.level == "problem")


@dataclass
class _Seen:
    """What was seen of all images."""

    sizes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)
    unannotated: list[str] = field(default_factory=list)
    overlapping: list[str] = field(default_factory=list)
    in_pieces: dict[str, int] = field(default_factory=dict)
    one_in_pieces: list[str] = field(default_factory=list)
    tiny: dict[str, int] = field(default_factory=dict)
    crowded: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def check(
    dataset: Dataset, progress: Progress | None = None, broken: Mapping[str, BenchError] = MappingProxyType({})
) -> Report:
    """Read every image of a data set and compare it with its card.

    Of a prepared data set whose truth is not what was written, that is all that is reported: no image is read.

    Args:
        dataset: opened.
        progress: called as ``progress(done, total, text)``.
        broken: images that could not be read, as :func:`bench.data.open_dataset` gives them; each is a problem.

    Raises:
        DataError: an image that was sound when the data set was opened and is broken now.
    """
    card = dataset.card
    identity = (card.name, card.title, dataset.source, str(dataset.folder), dataset.content_hash)
    if dataset.is_prepared:
        try:
            verify(dataset.folder)
        except DataError as error:  # what such files hold must not be decoded
            return Report(*identity, (Finding("problem", "prepared", str(error)),), ())
    seen = _Seen()
    everything = dataset.everything()
    for done, sample in enumerate(everything, 1):
        _look(sample, dataset, seen)
        if progress:
            progress(done, len(everything), f"checking {dataset.card.name}")
    summaries = tuple(_summaries(dataset, seen))
    findings = (
        *_intact(dataset),
        *_counts(dataset, summaries),
        *_unused(dataset),
        *_images(seen, len(everything), broken),
        *_truth(dataset, seen),
        *_duplicates(dataset),
        *_groups(dataset),
        *_notes(dataset, broken),
        *(Finding("note", "known flaw", flaw) for flaw in dataset.card.flaws if dataset.source == "real"),
    )
    return Report(*identity, findings, summaries)


def open_and_check(
    name: str, data_root: Path | None = None, *, stand_in: bool | None = None, progress: Progress | None = None
) -> tuple[Dataset, Report]:
    """Open a data set, broken images and all, and check it.

    Args:
        name: of a card.
        data_root: as :func:`bench.data.open_dataset` takes it.
        stand_in: the same.
        progress: called as ``progress(done, total, text)``.

    Raises:
        UnknownNameError: no such card.
        DataError: a broken card or annotation file, no files, or not one image that can be read.
    """
    broken: dict[str, BenchError] = {}
    dataset = open_dataset(name, data_root, stand_in=stand_in, progress=progress, broken=broken)
    return dataset, check(dataset, progress, broken)


# -- one image -----------------------------------------------------------------------------------------


def _look(sample: Sample, dataset: Dataset, seen: _Seen) -> None:
    image = sample.image
    seen.sizes[f"{image.shape[0]} x {image.shape[1]}"] += 1
    channels = 1 if image.ndim == 2 else image.shape[2]
    seen.kinds[f"{image.dtype.itemsize * 8} bit, {channels} channel{'s' if channels > 1 else ''}"] += 1
    if image.min() == image.max():
        seen.blank.append(sample.id)
    truth = sample.instances
    if truth is None:
        seen.unannotated.append(sample.id)
        return
    seen.counts[sample.id] = len(truth)
    for class_id in truth.class_ids.tolist():
        seen.classes[dataset.task.classes[class_id]] += 1
    if not len(truth):
        seen.empty.append(sample.id)
        return
    overlapping = any(_overlap(truth.take(truth.class_ids == c)) for c in np.unique(truth.class_ids))
    if overlapping:
        seen.overlapping.append(sample.id)
    if pieces := _in_pieces(truth, overlapping):
        seen.in_pieces[sample.id] = pieces
        if len(np.unique(truth.class_ids)) == len(truth):
            seen.one_in_pieces.append(sample.id)
    if tiny := int((truth.areas <= TINY).sum()):
        seen.tiny[sample.id] = tiny
    if len(truth) > dataset.task.max_detections:
        seen.crowded.append(sample.id)


def _overlap(instances: Instances) -> bool:
    """Whether two instances share a pixel."""
    merged = coco_mask.merge(rle.objects(instances.rles, *instances.shape))
    return int(coco_mask.area(merged)) < int(instances.areas.sum())


def _in_pieces(instances: Instances, overlapping: bool) -> int:
    """How many instances have more than one 8-connected component."""
    if overlapping:
        from scipy import ndimage

        eight = np.ones((3, 3))
        masks = (_cropped(instances, i) for i in range(len(instances)))
        return sum(int(ndimage.label(mask, eight)[1]) > 1 for mask in masks)
    from skimage.measure import label

    labels = instances.to_label_map("index")
    pieces = label(labels, background=0, connectivity=2)  # regions of one value each
    owner = np.zeros(int(pieces.max()) + 1, labels.dtype)
    owner[pieces] = labels
    return int((np.bincount(owner[1:]) > 1).sum())


def _cropped(instances: Instances, index: int) -> NDArray[np.bool_]:
    """A mask within its box."""
    x0, y0, x1, y1 = rle.boxes(instances.rles[index : index + 1], *instances.shape)[0].astype(int).tolist()
    return rle.decode(instances.rles[index], *instances.shape)[y0:y1, x0:x1]


# -- all images ----------------------------------------------------------------------------------------


def _summaries(dataset: Dataset, seen: _Seen) -> Iterator[SplitSummary]:
    for name in dataset.split_names:
        ids = dataset.ids_of(name)
        counts = [seen.counts[i] for i in ids if i in seen.counts]
        yield SplitSummary(
            name,
            len(ids),
            len(counts),
            sum(counts),
            min(counts, default=0),
            float(np.median(counts)) if counts else 0.0,
            max(counts, default=0),
        )


def _intact(dataset: Dataset) -> Iterator[Finding]:
    """Whether the images of a prepared data set are those that were prepared; its truth was looked at before."""
    if not dataset.is_prepared:
        return
    written = {image.id: image.pixels for image in read_index(dataset.folder).images}
    yield Finding("ok", "prepared", "masks and classes are those that were written")
    if dataset.outdated:
        yield Finding("problem", "prepared", dataset.outdated)
    changed = tuple(record.key for record in dataset.images() if record.sha256 != written[record.key])
    if changed:
        text = f"{_counted(changed, 'image is not as it was', 'images are not as they were')} prepared"
        yield Finding("problem", "prepared", text, changed)


def _counts(dataset: Dataset, summaries: Iterable[SplitSummary]) -> Iterator[Finding]:
    expected = dataset.card.expected
    summaries = tuple(summaries)
    found = {s.name: s.images for s in summaries}
    pairs = [("images", expected.images, len(dataset))]
    pairs += [(f"images of {name}", count, found[name]) for name, count in expected.splits.items()]
    if dataset.source == "real":
        instances = {s.name: s.instances for s in summaries}
        pairs += [("instances", expected.instances, dataset.version.n_instances)]
        pairs += [(f"instances of {name}", count, instances[name]) for name, count in expected.split_instances.items()]
    for what, should, are in pairs:
        if should is None:
            continue
        level: Level = "ok" if should == are else "problem"
        yield Finding(level, "counts", f"{are} {what}" + ("" if should == are else f", the card expects {should}"))
    for name, count in found.items():
        if not count:
            yield Finding("note", "counts", f"the split {name} has no image here")


def _unused(dataset: Dataset) -> Iterator[Finding]:
    """Images in no split of any scheme, by the part of the data set on disk that they belong to."""
    used = {image for name in dataset.split_names for image in dataset.ids_of(name)}
    parts: dict[str, list[str]] = {}
    for entry in dataset.everything().entries:
        if entry.id not in used:
            parts.setdefault(entry.part, []).append(entry.id)
    for part, images in sorted(parts.items()):
        of_part = f" of the part {part!r}" if part else ""
        text = f"{_counted(images, f'image{of_part} is', f'images{of_part} are')} in no split"
        yield Finding("note", "counts", text, tuple(images))


def _images(seen: _Seen, total: int, broken: Mapping[str, BenchError]) -> Iterator[Finding]:
    for image, error in broken.items():
        yield Finding("problem", "broken", error.message, (image,))
    yield Finding("ok", "images", f"all {total} were read" if not broken else f"{total} were read")
    yield Finding("ok", "sizes", ", ".join(f"{size}: {n}" for size, n in seen.sizes.most_common(6)))
    yield Finding("ok", "kinds", ", ".join(f"{kind}: {n}" for kind, n in seen.kinds.most_common()))
    if seen.blank:
        text = f"{_counted(seen.blank, 'has', 'have')} one grey level only"
        yield Finding("problem", "images", text, tuple(seen.blank))
    if seen.unannotated:
        text = f"{_counted(seen.unannotated, 'image is', 'images are')} not annotated"
        yield Finding("note", "truth", text, tuple(seen.unannotated))
    if seen.empty:
        text = f"{_counted(seen.empty, 'image has', 'images have')} no instance"
        yield Finding("note", "truth", text, tuple(seen.empty))


def _reads_numbers(dataset: Dataset) -> bool:
    """Whether the truth is in label images of which each number is an instance."""
    form = dataset.card.format
    return dataset.source == "real" and form["name"] == "label_pairs" and form.get("decode", "ids") == "ids"


def _counted(things: Sized, one: str, more: str) -> str:
    return _number(len(things), one, more)


def _number(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _truth(dataset: Dataset, seen: _Seen) -> Iterator[Finding]:
    task = dataset.task
    yield Finding("ok", "classes", ", ".join(f"{name}: {n}" for name, n in seen.classes.most_common()) or "no instance")
    if missing := [name for name in task.classes if name not in seen.classes]:
        yield Finding("note", "classes", f"no instance of {', '.join(missing)}")
    if seen.overlapping:
        level: Level = "note" if task.overlap else "problem"
        told = "" if task.overlap else ", the card says that there is none"
        text = f"instances of one class overlap in {_counted(seen.overlapping, 'image', 'images')}{told}"
        yield Finding(level, "overlap", text, tuple(seen.overlapping))
    else:
        yield Finding("ok", "overlap", "no two instances of a class share a pixel")
    if seen.in_pieces:
        text = f"{_number(sum(seen.in_pieces.values()), 'instance is', 'instances are')} in several pieces"
        yield Finding("note", "pieces", text, tuple(seen.in_pieces))
    if _reads_numbers(dataset) and 2 * len(seen.one_in_pieces) > len(seen.counts) - len(seen.empty):
        text = (
            f"{_counted(seen.one_in_pieces, 'image has', 'images have')} one instance of a class, in several pieces: "
            'if its label image is a mask of all of them, set decode = "components-of-first-channel" in the '
            "card's [format]: each piece is an instance then"
        )
        yield Finding("note", "mask", text, tuple(seen.one_in_pieces))
    if seen.tiny:
        text = f"{_number(sum(seen.tiny.values()), 'instance has', 'instances have')} {TINY} pixels or less"
        yield Finding("note", "tiny", text, tuple(seen.tiny))
    if seen.crowded:
        have = _counted(seen.crowded, "image has", "images have")
        text = f"{have} more instances than max_detections = {task.max_detections}"
        yield Finding("problem", "cap", text, tuple(seen.crowded))


def _duplicates(dataset: Dataset) -> Iterator[Finding]:
    duplicates = dataset.duplicates()
    if not duplicates:
        yield Finding("ok", "duplicates", "no image is there twice")
        return
    same = tuple(i for ids in duplicates for i in ids)
    text = f"{_counted(duplicates, 'image is', 'images are')} there more than once"
    yield Finding("note", "duplicates", text, same)
    leaks: dict[tuple[str, str], tuple[str, ...]] = {}
    for name in dataset.split_names:
        train, val = dataset.training_names(name)
        for other in (train, val):
            if other is None or name in (train, other):
                continue
            if found := dataset.shared(name, other):
                leaks[other, name] = found
    for (train_name, name), ids in leaks.items():
        text = f"{_counted(ids, f'image of {name} is', f'images of {name} are')} also in {train_name}"
        yield Finding("problem", "leak", text, ids)
    if not leaks:
        yield Finding("ok", "leak", "no image is in two of the splits for training, validation and test")


def _groups(dataset: Dataset) -> Iterator[Finding]:
    groups = {record.key: record.group for record in dataset.images()}
    for name in dataset.split_names:
        train, _ = dataset.training_names(name)
        if train is None or train == name or name.rpartition("/")[2] == "val":
            continue
        shared = {groups[i] for i in dataset.ids_of(name)} & {groups[i] for i in dataset.ids_of(train)} - {None}
        if shared:
            groups_shared = _counted(shared, "group", "groups")
            text = f"{name} and {train} share {groups_shared}, such as {min(str(g) for g in shared)}"
            yield Finding("note", "groups", text)


def _notes(dataset: Dataset, broken: Mapping[str, BenchError]) -> Iterator[Finding]:
    """What was left out of the files, objects outside their image apart from the rest."""
    for note in dataset.notes:
        if note.partition(": ")[0] not in broken:
            yield Finding("note", "outside" if note.endswith(CUT_OFF) else "left out", note)


# -- as text, data, a page -----------------------------------------------------------------------------------------


def to_text(report: Report, most: int = 5) -> str:
    """A report for a terminal: a line each finding, at most ``most`` notes of a topic; all problems, last."""
    told: Counter[str] = Counter()
    lines = [f"{report.title} ({report.source}): {report.folder}", f"version {report.version}", ""]
    calm = [f for f in report.findings if f.level != "problem"]
    for finding in calm:
        told[finding.topic] += 1
        if told[finding.topic] <= most or finding.level == "ok":
            lines.append(f"{finding.level:<8} {finding}")
    hidden = ", ".join(f"{topic} {n - most}" for topic, n in told.items() if n > most)
    if hidden:
        lines.append(f"{'note':<8} more notes of the same kinds, not shown here: {hidden}")
    lines += [f"{'PROBLEM':<8} {finding}" for finding in report.problems]
    return "\n".join(lines)


def as_plain(report: Report) -> dict[str, Any]:
    """A report as plain data, with the number of its problems."""
    return {**asdict(report), "problems": len(report.problems)}


def to_html(report: Report, dataset: Dataset, pictures: int = 12) -> str:
    """A page that stands alone: findings, splits, and a contact sheet of some images with their outlines."""
    everything = dataset.everything()
    sheet = io.BytesIO()
    shown = everything.limit(pictures) if report.splits else ()  # no splits: nothing that may be decoded
    contact_sheet(shown).save(sheet, "PNG")
    picture = base64.b64encode(sheet.getvalue()).decode("ascii")
    rows = "".join(
        f"<tr class={f.level}><td>{f.level}</td><td>{html.escape(f.topic)}</td><td>{html.escape(f.text)}</td>"
        f"<td>{html.escape(', '.join(f.images[:20]))}{' …' if len(f.images) > 20 else ''}</td></tr>\n"
        for f in report.findings
    )
    splits = "".join(
        f"<tr><td>{html.escape(s.name)}</td><td>{s.images}</td><td>{s.annotated}</td><td>{s.instances}</td>"
        f"<td>{s.least}</td><td>{s.median:g}</td><td>{s.most}</td></tr>\n"
        for s in report.splits
    )
    title = html.escape(f"{report.title} ({report.source})")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px sans-serif; margin: 2em; max-width: 90em; }}
table {{ border-collapse: collapse; margin: 1em 0; }}
td, th {{ border: 1px solid #ccc; padding: .3em .6em; text-align: left; vertical-align: top; }}
.problem td:first-child {{ background: #d55e00; color: white; }}
.note td:first-child {{ background: #f0e442; }}
</style></head><body>
<h1>{title}</h1>
<p>{html.escape(report.folder)}<br>version {report.version}</p>
<table><tr><th></th><th>what</th><th>finding</th><th>images</th></tr>
{rows}</table>
<table><tr><th>split</th><th>images</th><th>annotated</th><th>instances</th><th>fewest</th><th>median</th><th>most</th></tr>
{splits}</table>
<p><img alt="some images with the outlines of the truth" src="data:image/png;base64,{picture}"></p>
</body></html>
"""
