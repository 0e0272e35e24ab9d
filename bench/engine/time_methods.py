"""Methods timed again, side by side on this machine: rounds interleaved, order random by seed.

What slows the machine for a while slows all methods alike, and every image is predicted by all of them in every round,
so that their times can be divided image by image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.api import ControlMethod, Method, Sample, StoreError, UsageError
from bench.data import Dataset
from bench.data.opening import open_visibly
from bench.engine import memory, provenance, timing
from bench.engine.plan import Job, Request, make_job
from bench.progress import Report, reporting
from bench.records import RunBundle, TimingRecord
from bench.registry import MethodEntry, find_method
from bench.report.timings import TimedMethod, TimingSession
from bench.store import Store, StoredRun, open_store, store_if_there


@dataclass
class _Candidate:
    """A method that is being timed."""

    name: str
    method: Method
    job: Job
    weights: str
    run: StoredRun | None
    milliseconds: NDArray[np.float64]
    """(rounds, images), end to end."""
    records: list[TimingRecord] = field(default_factory=list)
    computed: tuple[str, ...] = ()
    """What the run's own predictions were computed with."""
    working: int | None = None
    batches: list[float] = field(default_factory=list)
    """Images a second of each timed batch."""

    def computed_here(self) -> str:
        """See :func:`bench.engine.timing.computed_here`."""
        return timing.computed_here(self.method, self.job.device)


def time_methods(
    names: Sequence[str],
    dataset: str,
    *,
    rounds: int = 5,
    images: int = 8,
    batch: int | None = None,
    weights: Mapping[str, Path] | None = None,
    fresh: bool = False,
    seed: int = 0,
    split: str | None = None,
    data_root: Path | None = None,
    stand_in: bool | None = None,
    db: str | None = None,
    device: str = "auto",
    amp: str | None = None,
    channels_last: bool = False,
    compile: bool = False,
) -> TimingSession:
    """Time methods on the same images of a data set.

    A method's weights are those given for it, else of its newest stored run on the same version of the data set
    (``paper`` before ``short`` before ``smoke``), with that run's settings, else random ones, which is said.

    Args:
        names: of methods; the first is what the others are divided by.
        dataset: whose images.
        rounds: predictions of each image by each method.
        images: how many, drawn by the seed.
        batch: also time so many images in one pass, for methods that can.
        weights: method to checkpoint.
        fresh: random weights for every method that has none given.
        seed: of images, order and random weights.
        split: of the data set; default the one it is evaluated on.
        data_root: folder in which data sets lie.
        stand_in: only the generated stand-in (True) or only real files (False).
        db: the store to look for runs in.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        amp: see :class:`bench.api.Compute`, as are ``channels_last`` and ``compile``.

    Raises:
        UsageError: a control, weights for a method that is not timed, or a method that has neither weights nor a
            network to make them for.
        MethodError: weights of another network.
    """
    given = dict(weights or {})
    entries = [find_method(name) for name in dict.fromkeys(names)]
    known = {entry.name for entry in entries}
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UsageError(f"--weights are given for {unknown[0]}, which is not timed", f"timed: {', '.join(known)}")
    for name, path in given.items():
        if not find_method(name).method.trainable:
            raise UsageError(f"{name} has no weights to load", f"leave --weights {name}= out")
        if not path.is_file():
            raise UsageError(f"--weights {name}={path}: no such file", "give the path of a checkpoint")
    data = open_visibly(dataset, data_root, stand_in=stand_in)
    request = Request(split=split, device=device, amp=amp, channels_last=channels_last, compile=compile)
    jobs = [_job(entry, data, seed, request) for entry in entries]
    samples = list(data.split(jobs[0].split).limit(images, seed))
    if not samples:
        raise UsageError(f"the split {jobs[0].split!r} of {dataset} has no image", "choose another --split")
    shape = (rounds, len(samples))
    with nullcontext() if fresh else store_if_there(db) as store:
        candidates = [_candidate(job, given.get(job.entry.name), store, seed, np.zeros(shape)) for job in jobs]
    total = (rounds + 1) * len(candidates) * len(samples)
    with reporting("timing", "prediction") as report:
        _measure(candidates, samples, rounds, batch, seed, report, total)
    stored = _keep(candidates, db)
    return _session(data, candidates, samples, rounds, batch, seed, stored)


# -- who is timed -----------------------------------------------------------------------------------


def _job(entry: MethodEntry, data: Dataset, seed: int, request: Request) -> Job:
    method = entry.method
    if issubclass(method, ControlMethod):
        raise UsageError(f"{entry.name} is made from the truth, so its time says nothing", "leave it out")
    schedule = "paper" if "paper" in method.schedules else next(iter(method.schedules))
    return make_job(entry, data, seed, dataclasses.replace(request, schedule=schedule))


def _candidate(
    job: Job, weights: Path | None, store: Store | None, seed: int, milliseconds: NDArray[np.float64]
) -> _Candidate:
    entry, run, params = job.entry, None, job.params
    computed: tuple[str, ...] = ()
    if weights is None and store is not None and entry.method.trainable:
        found = _newest(store, job)
        if found is not None:
            run, weights, params, computed = found
    method = entry.method(job.task, params, job.device)
    method.compute = job.compute
    if weights is not None:
        method.load(weights)
        origin = f"run {run.id} ({run.schedule})" if run else str(weights)
    elif entry.method.trainable:
        method.load_fresh(seed)
        origin = f"random, seed {seed}"
    else:
        origin = "none"
    return _Candidate(entry.name, method, job, origin, run, milliseconds, computed=computed)


def _newest(store: Store, job: Job) -> tuple[StoredRun, Path, Any, tuple[str, ...]] | None:
    """The run whose weights serve, its weights, its settings, and how it computed."""
    runs = store.runs(
        method=job.entry.name, dataset=job.dataset.card.name, content_hash=job.dataset.content_hash, status="ok"
    )
    order = {"paper": 0, "short": 1, "smoke": 2}
    for run in sorted((r for r in runs if r.method == job.entry.name), key=lambda r: order.get(r.schedule, 3)):
        bundle = store.bundle(run.id)
        weights = _weights_of(bundle)
        if weights is not None:
            computed = tuple(bundle.run.arguments.get("compute", ()))
            return run, weights, _settings(job.entry.method, bundle.method.params), computed
    return None


def _weights_of(bundle: RunBundle) -> Path | None:
    for artifact in bundle.artifacts:
        path = Path(bundle.run.folder) / artifact.path
        if artifact.sha256 == bundle.run.weights_sha256 and path.is_file():
            return path
    return None


def _settings(method: type[Method], stored: Mapping[str, Any]) -> Any:
    """A run's settings: as stored, those that the method has got since by their default."""
    fields = {f.name for f in dataclasses.fields(method.Params)}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items() if k in fields}
    return method.Params(**values)


# -- the clock --------------------------------------------------------------------------------------


def _measure(
    candidates: Sequence[_Candidate],
    samples: Sequence[Sample],
    rounds: int,
    batch: int | None,
    seed: int,
    report: Report,
    total: int,
) -> None:
    rng = np.random.default_rng(seed)
    done = 0
    for candidate in candidates:  # every image once, untimed: warm-up, and the memory that it takes
        for sample in samples:
            candidate.working = _largest(candidate.working, _working_memory(candidate, sample))
            done += 1
            report(done, total, f"{candidate.name}, warm-up")
        for _ in range(timing.WARM_UP[candidate.job.device.partition(":")[0]] - 1):
            candidate.method.predict(samples[0].image)
    for number in range(rounds):
        for image in rng.permutation(len(samples)):
            for which in rng.permutation(len(candidates)):
                candidate = candidates[which]
                clock = timing.PhaseClock(timing.synchroniser(candidate.computed_here()))
                with timing.on_clock(candidate.method, clock), clock.whole() as milliseconds:
                    candidate.method.predict(samples[image].image)
                candidate.milliseconds[number, image] = milliseconds["total"]
                candidate.records += [
                    TimingRecord(samples[image].id, phase, number, value) for phase, value in milliseconds.items()
                ]
                done += 1
                report(done, total, candidate.name)
    if batch is not None:
        able = [c for c in candidates if predicts_batches(c.method)]
        for candidate in able:
            candidate.method.predict_batch(_batch(samples, batch, 0))
        for number in range(rounds):
            for which in rng.permutation(len(able)):
                candidate = able[which]
                images = _batch(samples, batch, number * batch)
                clock = timing.PhaseClock(timing.synchroniser(candidate.computed_here()))
                with clock.whole() as milliseconds:
                    candidate.method.predict_batch(images)
                candidate.batches.append(batch * 1e3 / milliseconds["total"])


def predicts_batches(method: Method) -> bool:
    """Whether a method computes several images together."""
    return type(method).predict_batch is not Method.predict_batch


def _batch(samples: Sequence[Sample], size: int, start: int) -> list[Any]:
    return [samples[(start + n) % len(samples)].image for n in range(size)]


def _working_memory(candidate: _Candidate, sample: Sample) -> int | None:
    device = candidate.computed_here()
    before = memory.held(device)
    reset = memory.reset_peak(device)
    candidate.method.predict(sample.image)
    after = memory.peak(device)
    return None if before is None or after is None or not reset else max(0, after - before)


def _largest(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


def _keep(candidates: Sequence[_Candidate], db: str | None) -> tuple[str, ...]:
    """Store the samples with the runs whose weights were timed, and say so, or why they cannot be stored.

    Only where they are of the same machine and device and computed in the same way as the run's own; phases and
    images are then those of the run.
    """
    kept: list[str] = []
    ours = [c for c in candidates if c.run is not None and _as_in_its_run(c)]
    if not ours:
        return ()
    try:
        with open_store(db, create=False) as store:
            for candidate in ours:
                assert candidate.run is not None
                store.add_timings(candidate.run.id, candidate.records)
                kept.append(f"run {candidate.run.id}")
    except StoreError as error:  # what was measured is shown all the same
        lost = ", ".join(f"run {c.run.id}" for c in ours[len(kept) :] if c.run is not None)
        return (*_said_kept(kept), f"The samples of {lost} are not stored: {error}.")
    return _said_kept(kept)


def _said_kept(runs: Sequence[str]) -> tuple[str, ...]:
    return (f"The samples are stored as further rounds of {', '.join(runs)}.",) if runs else ()


def _as_in_its_run(candidate: _Candidate) -> bool:
    run, job = candidate.run, candidate.job
    assert run is not None
    same_place = (run.machine, run.device) == (provenance.machine(job.device).hash, job.device)
    return same_place and candidate.computed == job.compute.asked()


# -- what it says -----------------------------------------------------------------------------------


def _session(
    data: Dataset,
    candidates: Sequence[_Candidate],
    samples: Sequence[Sample],
    rounds: int,
    batch: int | None,
    seed: int,
    stored: tuple[str, ...],
) -> TimingSession:
    device = candidates[0].job.device
    machine = provenance.machine(device)
    uses_torch = any("torch" in c.job.entry.method.requires for c in candidates)
    notes = ["Latencies are compared within one machine only; ratios are image by image, within a round."]
    if any(c.weights.startswith("random") for c in candidates):
        notes.append(
            "Random weights find other objects than trained ones, so what follows the network (suppression, masks) "
            "takes another time."
        )
    if batch and not all(c.batches for c in candidates):
        notes.append("A dash under throughput at a batch: the method predicts one image at a time.")
    if candidates[0].job.compute.asked():
        notes.append(f"Computed with {', '.join(candidates[0].job.compute.asked())}.")
    asked = {c.job.device for c in candidates}
    if len(asked) > 1:
        notes.append(f"Not all methods use a GPU: {', '.join(f'{c.name} on {c.job.device}' for c in candidates)}.")
    return TimingSession(
        dataset=data.card.name,
        source=data.source,
        split=candidates[0].job.split,
        images=len(samples),
        rounds=rounds,
        batch=batch,
        seed=seed,
        machine=", ".join(filter(None, (machine.hostname, machine.cpu, f"{machine.cores} cores", machine.gpu))),
        machine_hash=machine.hash,
        device=device,
        threads=_threads() if uses_torch else None,
        methods=tuple(_timed(c, candidates[0]) for c in candidates),
        notes=(*notes, *stored),
    )


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _timed(candidate: _Candidate, first: _Candidate) -> TimedMethod:
    by_image = np.median(candidate.milliseconds, axis=0)
    ratios = np.median(candidate.milliseconds / first.milliseconds, axis=0)
    low, high = timing.interval_of_median(by_image) or (None, None)
    ratio_low, ratio_high = timing.interval_of_median(ratios) or (None, None)
    median = float(np.median(by_image))
    return TimedMethod(
        method=candidate.name,
        weights=candidate.weights,
        run=candidate.run.id if candidate.run else None,
        n_parameters=candidate.method.n_parameters(),
        samples=candidate.milliseconds.size,
        median_ms=median,
        low_ms=low,
        high_ms=high,
        p95_ms=float(np.percentile(candidate.milliseconds, 95)),
        ratio=float(np.median(ratios)),
        ratio_low=ratio_low,
        ratio_high=ratio_high,
        images_per_second=1e3 / median,
        batch_images_per_second=float(np.median(candidate.batches)) if candidate.batches else None,
        working_memory_bytes=candidate.working,
    )
