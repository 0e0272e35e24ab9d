"""One job, from its plan to its row in the store."""

from __future__ import annotations

import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.api import (
    BenchError,
    ControlMethod,
    DataError,
    FitContext,
    Instances,
    Method,
    MethodError,
    OutputError,
    Sample,
    StoreError,
    UsageError,
)
from bench.data import Split
from bench.engine import folder as files
from bench.engine import memory, operating_point, provenance, scoring, sharing, timing
from bench.engine.folder import RunFolder
from bench.engine.further_data import source_for
from bench.engine.plan import Job
from bench.engine.spent import Spent
from bench.engine.standard_output import printing_to_stderr
from bench.progress import reporting
from bench.records import (
    ArtifactRecord,
    FailureKind,
    ImageRecord,
    MethodVersionRecord,
    RunBundle,
    RunRecord,
    TimingRecord,
)
from bench.store import Store
from bench.store.files import OperatingPoint
from bench.store.identity import GIVEN


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        run_id: of the row in the store.
        status: ``ok``, ``failed``, or ``stored`` where the same run was already there.
        folder: of the run.
        error: what went wrong, for a failed one.
    """

    job: Job
    run_id: int
    status: str
    folder: Path
    error: BenchError | None = None


@dataclass
class _Progress:
    """What of a run is known so far; a failure stores as much of it as there is."""

    started: datetime
    spent: Spent
    train_seconds: float | None = None
    weights: str | None = None
    parameters: int | None = None
    scored: bool | None = None
    images: int = 0
    weights_of: str | None = None
    operating_point: OperatingPoint | None = None
    no_operating_point: str | None = None


def execute(job: Job, store: Store, runs: Path, *, force: bool = False) -> Outcome:
    """Train if need be, predict, time, score and store one job; a finished key is not run again.

    What fails is stored as an outcome and returned, with the traceback in the run's log. Interrupted or killed, the
    same call goes on where this one was.

    Args:
        job: see :func:`bench.engine.plan.make_job`.
        store: where the row goes.
        runs: folder of all runs.
        force: run again from the beginning, and supersede the run that stands.

    Raises:
        OutputError: the run's folder cannot be written.
        StoreError: the store cannot be written; the folder keeps everything, and the same command stores it.
    """
    folder = job.folder(runs)
    if not force and (standing := store.finished(job.key)) is not None:
        return Outcome(job, standing.id, "stored", folder)
    run = RunFolder(folder)
    with run.locked():
        if not force and (standing := store.finished(job.key)) is not None:  # by another process, a moment ago
            return Outcome(job, standing.id, "stored", folder)
        if force:
            run.clear()
        run.write_plan({**job.plan, "key": job.key, "command": provenance.command_line()})
        state = _Progress(started=datetime.now(UTC), spent=Spent(run.path))
        attempt = store.attempts(job.key) + 1
        try:
            with printing_to_stderr():
                bundle = _complete(job, run, state, attempt, share=not force)
        except (OutputError, StoreError):
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a method raises is an outcome of the run
            failure = _failure(job, error)
            run.log(traceback.format_exc())
            run_id = store.add(_bundle(job, run, state, attempt, failed=(_failure_kind(error), failure.message)))
            return Outcome(job, run_id, "failed", run.path, failure)
        return Outcome(job, store.add(bundle, supersede=force), "ok", run.path)


def _complete(job: Job, run: RunFolder, state: _Progress, attempt: int, share: bool) -> RunBundle:
    method = job.entry.method(job.task, job.params, job.device)
    method.compute = job.compute
    _train(job, run, method, state, share)
    split = job.dataset.split(job.split).limit(job.limit, job.seed)
    state.images = len(split)
    _predict(job, run, method, split, state)
    _choose_operating_point(job, run, method, state)
    parts = scoring.parts_of(job.dataset, job.split)
    point = state.operating_point
    min_score = None if point is None else point.min_score
    scores, images = scoring.score_run(job.name, job.dataset.card, split, run.predicted(), min_score, parts)
    bundle = _bundle(job, run, state, attempt)
    if isinstance(method, ControlMethod):  # how fast the truth is copied says nothing
        return replace(bundle, results=scores, image_results=images)
    times = {record["id"]: record for record in run.timings().read()}  # of a repeated image the last
    totals = [record["ms"]["total"] for record in times.values()]
    return replace(
        bundle,
        results=(*scores, *scoring.timing_results(timing.summary(totals, state.spent.peak_memory_bytes))),
        image_results=images,
        timings=tuple(
            TimingRecord(image, phase, record["round"], milliseconds)
            for image, record in times.items()
            for phase, milliseconds in record["ms"].items()
        ),
    )


# -- training ---------------------------------------------------------------------------------------


def _train(job: Job, run: RunFolder, method: Method, state: _Progress, share: bool) -> None:
    weights = job.weights
    shared = sharing.take_over(job, run) if method.trainable and weights is None and share else None
    if shared is not None:
        weights, training = shared
        state.train_seconds, state.weights_of = training.seconds, training.run
        run.log(f"weights of the training in {training.run}, which is that of this run")
    elif method.trainable and weights is None:
        train, val = job.dataset.training_splits(job.split)
        if train is None:
            raise UsageError(
                f"{job.dataset.card.name} has no training images for the split {job.split!r}",
                "give trained weights: --weights PATH",
            )
        train = train.limit(job.schedule.train_images, job.seed)
        with reporting(f"training {job.name}", "step") as report, state.spent.counting("training"):

            def progress(done: int, total: int, text: str) -> None:
                report(done, total, text)
                state.spent.go_on()

            weights = method.fit(
                train,
                val,
                FitContext(
                    folder=run.path / files.TRAINING,
                    schedule=job.schedule,
                    schedule_name=job.schedule_name,
                    seed=job.seed,
                    init=job.init,
                    dataset=job.dataset.card.name,
                    progress=progress,
                    data=source_for(type(method), job.further, job.schedule.train_images, job.seed),
                ),
            )
        if weights is None:
            raise MethodError(f"{job.entry.name}.fit() returned no file of weights")
        state.train_seconds = state.spent.seconds("training") or 0.0
        sharing.remember(job, run, weights, state.train_seconds)
    if weights is not None:
        method.load(weights)
        state.weights = provenance.sha256_file(weights)
    state.parameters = method.n_parameters()
    state.scored = method.scored


# -- prediction -------------------------------------------------------------------------------------


def _predict(job: Job, run: RunFolder, method: Method, split: Split, state: _Progress) -> None:
    done = {record["id"] for record in run.predictions().read()}
    journal, times = run.predictions(), run.timings()
    pending = [index for index, image_id in enumerate(split.ids) if image_id not in done]
    if not pending:  # its times and its memory are known from when it was made
        return
    device = timing.computed_here(method, job.device)
    clock = timing.PhaseClock(timing.synchroniser(device))
    memory.reset_peak(device)
    with reporting(f"predicting {job.name}", "image") as report, state.spent.counting("prediction"):
        for count, index in enumerate(pending):
            sample = split[index]
            if count == 0 and not isinstance(method, ControlMethod):
                for _ in range(timing.WARM_UP[job.device.partition(":")[0]]):
                    method.predict(sample.image)
            with timing.on_clock(method, clock), clock.whole() as milliseconds:
                found = _answer(method, sample, job.seed)
            check_prediction(job.entry.name, method, sample, found)
            # The time first: a kill between the two costs a repeated image, not a lost time.
            times.append({"id": sample.id, "round": 0, "ms": milliseconds})
            journal.append(files.to_record(sample.id, found))
            report(len(done) + count + 1, len(split), f"{len(found)} instances in the last")
            state.spent.go_on()
    state.spent.used_memory(memory.peak(device) if method.in_process else None)


def _choose_operating_point(job: Job, run: RunFolder, method: Method, state: _Progress) -> None:
    """After the prediction, so that the times are those of a method that has just been loaded."""
    card = job.dataset.card
    if not operating_point.needed(card, method):
        return
    with suppress(DataError):  # what cannot be read is chosen anew
        state.operating_point = run.operating_point()
    if state.operating_point is not None:
        return
    images = operating_point.images_to_choose_on(job.dataset, job.split, job.limit, job.seed)
    if images is None:
        state.no_operating_point = "every detection counts: there are no other images to choose a confidence on"
        run.log(state.no_operating_point)
        return

    def predict(sample: Sample) -> Instances:
        found = method.predict(sample.image)
        check_prediction(job.entry.name, method, sample, found)
        return found

    state.operating_point = operating_point.choose(run, images, card, predict, job.name)
    if state.operating_point is None:
        state.no_operating_point = "every detection counts: no image to choose a confidence on is annotated"
        run.log(state.no_operating_point)


def _answer(method: Method, sample: Sample, seed: int) -> Instances:
    if isinstance(method, ControlMethod):
        return method.answer(sample, seed)
    return method.predict(sample.image)


def check_prediction(name: str, method: Method, sample: Sample, found: Any) -> None:
    """Hold a prediction against the contract of :class:`bench.api.Method`.

    Raises:
        MethodError: with what is wrong and in which image.
    """

    def wrong(what: str) -> MethodError:
        return MethodError(f"{name}, image {sample.id}: {what}", "see the contract in bench.api.Method.predict")

    if not isinstance(found, Instances):
        raise wrong(f"predict() returned {type(found).__name__} instead of Instances")
    if found.shape != sample.shape:
        raise wrong(
            f"the prediction is {found.height} x {found.width} pixels, the image {sample.shape[0]} x {sample.shape[1]}"
        )
    if len(found) > method.task.max_detections and not isinstance(method, ControlMethod):
        raise wrong(f"{len(found)} instances where at most {method.task.max_detections} are asked for")
    if len(found) and int(found.class_ids.max()) >= len(method.task.classes):
        raise wrong(f"class {int(found.class_ids.max())} where there are {len(method.task.classes)} classes")
    if (found.scores is not None) != method.scored:
        raise wrong("there are scores" if found.scores is not None else "there are no scores")
    if not np.isfinite(found.boxes).all():
        raise wrong("a box is not finite")
    try:
        found.checked()
    except DataError as error:
        raise wrong(error.message) from None


# -- what is stored ---------------------------------------------------------------------------------


def _bundle(
    job: Job, run: RunFolder, state: _Progress, attempt: int, failed: tuple[FailureKind, str] | None = None
) -> RunBundle:
    method = job.entry.method
    commit, dirty = provenance.commit()
    params = dict(provenance.plain(job.params))
    images: tuple[ImageRecord, ...] = job.dataset.images()
    declared = method.schedules[job.schedule_name]
    whole = job.limit is None and declared.train_images is None
    return RunBundle(
        run=RunRecord(
            key=job.key,
            split=job.split,
            seed=job.seed,
            schedule=job.schedule_name,
            init=job.init if method.trainable and job.weights is None else (GIVEN if job.weights else "none"),
            device=job.device,
            status="failed" if failed else "ok",
            badge="control" if method.origin == "control" else "measured",
            started=state.started,
            finished=datetime.now(UTC),
            attempt=attempt,
            folder=str(run.path.resolve()),
            command=provenance.command_line(),
            n_images=state.images,
            complete=whole and not failed,
            failure_kind=failed[0] if failed else None,
            failure=failed[1] if failed else None,
            commit=commit,
            dirty=dirty,
            weights_sha256=state.weights,
            train_seconds=state.train_seconds,
            predict_seconds=state.spent.seconds("prediction"),
            peak_memory_bytes=state.spent.peak_memory_bytes,
            arguments={
                **job.plan,
                "changed": job.changed,
                **({"weights_of": state.weights_of} if state.weights_of else {}),
                **({"operating_point": asdict(state.operating_point)} if state.operating_point else {}),
                **({"operating_point": state.no_operating_point} if state.no_operating_point else {}),
            },
        ),
        dataset=job.dataset.version,
        method=MethodVersionRecord(
            name=method.name,
            variant=job.entry.variant,
            title=job.entry.title,
            origin=method.origin,
            code_hash=job.code_hash,
            params=params,
            params_hash=provenance.sha256_of(params),
            scored=method.scored if state.scored is None else state.scored,
            paper=provenance.plain(method.paper) if method.paper else None,
            n_parameters=state.parameters,
        ),
        environment=job.environment,
        machine=provenance.machine(job.device),
        images=images,
        artifacts=_artifacts(run),
    )


def _artifacts(run: RunFolder) -> tuple[ArtifactRecord, ...]:
    found = (path for pattern in files.ARTIFACTS for path in sorted(run.path.glob(pattern)))
    return tuple(
        ArtifactRecord(str(path.relative_to(run.path)), provenance.sha256_file(path), path.stat().st_size)
        for path in found
        if path.is_file()
    )


# -- failures ---------------------------------------------------------------------------------------


def _failure(job: Job, error: BaseException) -> BenchError:
    if isinstance(error, BenchError):
        return error
    kind = _failure_kind(error)
    if kind == "out_of_memory":
        return MethodError(f"{job.name}: out of memory on {job.device}", "use a smaller image_scale, or another device")
    detail = str(error).strip().splitlines()
    return MethodError(
        f"{job.name} failed: {type(error).__name__}: {detail[0] if detail else 'no message'}",
        f"the traceback is in {files.LOG} of its folder",
    )


def _failure_kind(error: BaseException) -> FailureKind:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out_of_memory"
    # torch's CPU allocator has no exception type of its own.
    if isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error):
        return "out_of_memory"
    if isinstance(error, TimeoutError):
        return "timeout"
    return "error"
