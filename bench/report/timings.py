"""Methods timed side by side, for people."""

from __future__ import annotations

from dataclasses import dataclass

from bench.report.numbers import quantity
from bench.report.tables import simple, to_text


@dataclass(frozen=True)
class TimedMethod:
    """What the timing of one method says.

    Attributes:
        method: its full name.
        weights: where its weights come from, in words.
        run: number of the stored run whose weights they are, or None.
        n_parameters: trainable ones, or None where it has no network.
        samples: timed predictions, images x rounds.
        median_ms: over the images, of each image's median over the rounds; milliseconds an image at batch 1.
        low_ms: of its 95 % interval over the images; None below 6 images.
        high_ms: see above.
        p95_ms: 95th percentile over all samples.
        ratio: median over the images of its time over that of the first method.
        ratio_low: of its 95 % interval; None below 6 images.
        ratio_high: see above.
        images_per_second: at batch 1.
        batch_images_per_second: at the batch that was asked for, its median over the rounds; None where the method
            predicts one image at a time, or no batch was asked for.
        working_memory_bytes: the most that a prediction held beyond what was held before it, or None where unknown.
    """

    method: str
    weights: str
    run: int | None
    n_parameters: int | None
    samples: int
    median_ms: float
    low_ms: float | None
    high_ms: float | None
    p95_ms: float
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    images_per_second: float
    batch_images_per_second: float | None
    working_memory_bytes: int | None


@dataclass(frozen=True)
class TimingSession:
    """Methods timed side by side on one machine.

    Attributes:
        dataset: name of the data set.
        source: ``real`` or ``synthetic``.
        split: that the images are of.
        images: how many.
        rounds: predictions of each image by each method.
        batch: images a pass for throughput, or None.
        seed: of the order, the images and fresh weights.
        machine: the hardware, in words.
        machine_hash: latencies are compared only within one.
        device: ``cpu``, ``cuda:0``.
        threads: of the processor, where the methods use torch.
        methods: in the order asked for.
        notes: what a reader must know.
    """

    dataset: str
    source: str
    split: str
    images: int
    rounds: int
    batch: int | None
    seed: int
    machine: str
    machine_hash: str
    device: str
    threads: int | None
    methods: tuple[TimedMethod, ...]
    notes: tuple[str, ...]


def timing_text(session: TimingSession) -> str:
    """The session as a table, the machine in its title."""
    headers = ["method", "median at batch 1", "95 % interval", "95th percentile", "throughput at batch 1"]
    headers += [f"throughput at batch {session.batch}"] if session.batch else []
    headers += [f"time / {session.methods[0].method}", "95 % interval of it", "working memory", "parameters", "weights"]
    rows = []
    for m in session.methods:
        row: list[object] = [m.method, quantity(m.median_ms, "ms"), _between(m.low_ms, m.high_ms, "ms")]
        row += [quantity(m.p95_ms, "ms"), quantity(m.images_per_second, "images/s")]
        row += [quantity(m.batch_images_per_second, "images/s")] if session.batch else []
        row += [f"{m.ratio:.3f}", _between(m.ratio_low, m.ratio_high, ""), quantity(m.working_memory_bytes, "bytes")]
        row += [None if m.n_parameters is None else f"{m.n_parameters / 1e6:.1f} M", m.weights]
        rows.append(row)
    threads = f", {session.threads} threads" if session.threads and session.device == "cpu" else ""
    return to_text(
        simple(
            headers,
            rows,
            title=f"{session.dataset} ({session.source}, {session.split}), {session.images} images x "
            f"{session.rounds} rounds on {session.machine}, {session.device}{threads}",
            notes=session.notes,
        )
    )


def _between(low: float | None, high: float | None, unit: str) -> str | None:
    if low is None or high is None:
        return None
    if not unit:
        return f"{low:.3f} to {high:.3f}"
    return f"{quantity(low, unit)} to {quantity(high, unit)}"
