"""How long and how much memory a full-size LIVECell-like download takes to prepare, beside pycocotools.COCO() on it.

    python -m benchmarks.prepare [--images 3253] [--annotations 500000] [--folder DIR] [--json]

The download is generated: the official folders, 520 x 704 LZW TIFF images, one COCO file of polygons. Three programs of
their own follow: `COCO(file)`, which only parses and indexes the annotations; `prepare`, which also decodes every
image, draws every mask, checks and hashes them; and opening what was prepared. Memory is the largest sum over the
processes of a program, pages that they share counted once.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import psutil
import tifffile

from bench.data import load_card
from bench.data.prepare import prepared_folder

CARD = "livecell"
HEIGHT, WIDTH = 520, 704
LINES = ("A172", "BT474", "BV2", "Huh7", "MCF7", "SHSY5Y", "SkBr3", "SKOV3")
VERTICES = (20, 60)
ROUNDS = 2
BAR = 1.0
"""Seconds in which a prepared data set has to open."""

LOAD = "import sys; from pycocotools.coco import COCO; COCO(sys.argv[1])"
PREPARE = (
    "import sys; from pathlib import Path; from bench.data import load_card; from bench.data.prepare import prepare; "
    "prepare(load_card(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), again=True)"
)
OPEN = (
    "import sys, time; from pathlib import Path; from bench.data import open_dataset; begun = time.perf_counter(); "
    "opened = open_dataset(sys.argv[1], Path(sys.argv[2])); first = opened.split('train')[0]; "
    "print(time.perf_counter() - begun, len(opened), opened.version.n_instances)"
)


def write_download(folder: Path, images: int, annotations: int, seed: int = 0) -> Path:
    """A download in LIVECell's layout, all of it in `train`; the annotation file."""
    random = np.random.default_rng(seed)
    target = folder / "images" / "livecell_train_val_images"
    target.mkdir(parents=True, exist_ok=True)
    names = [f"{LINES[i % 8]}_Phase_A{i // 1000}_{i % 4 + 1}_{i:02d}d00h00m_{i % 4 + 1}.tif" for i in range(images)]
    shares = random.gamma(1.2, size=images)
    ends = np.floor(np.cumsum(shares) / shares.sum() * annotations + 0.5).astype(int)
    listed, number = [], 0
    path = folder / "annotations" / "LIVECell" / "livecell_coco_train.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        file.write(b'{"annotations":[')
        for image, (name, count) in enumerate(zip(names, np.diff(ends, prepend=0).tolist(), strict=True), 1):
            listed.append({"id": image, "file_name": name, "height": HEIGHT, "width": WIDTH, "url": "", "license": 1})
            noise = random.normal(128, 6, (HEIGHT // 4, WIDTH // 4)).repeat(4, 0).repeat(4, 1)
            tifffile.imwrite(target / name, noise.astype(np.uint8), compression="lzw")
            for outline in outlines(random, count):
                number += 1
                x0, y0, x1, y1 = outline[:, 0].min(), outline[:, 1].min(), outline[:, 0].max(), outline[:, 1].max()
                annotation = {
                    "segmentation": [outline.ravel().tolist()],
                    "area": float((x1 - x0) * (y1 - y0) * 0.78),
                    "iscrowd": 0,
                    "image_id": image,
                    "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
                    "category_id": 1,
                    "id": number,
                }
                file.write((b"," if number > 1 else b"") + encode(annotation))
        categories = [{"supercategory": "cell", "id": 1, "name": "cell"}]
        file.write(b'],"images":' + encode(listed) + b',"categories":' + encode(categories) + b"}\n")
    return path


def outlines(random: np.random.Generator, count: int):
    """Wavy ellipses inside the image, (V, 2) each, x and y with two decimals."""
    centres = random.uniform((24, 24), (WIDTH - 24, HEIGHT - 24), (count, 2))
    radii = random.uniform(6, 20, (count, 2))
    for centre, radius, vertices in zip(centres, radii, random.integers(*VERTICES, count), strict=True):
        angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
        wave = 1 + 0.15 * np.sin(3 * angle + centre[0])
        yield np.round(centre + radius * wave[:, None] * np.column_stack((np.cos(angle), np.sin(angle))), 2)


def measured(code: str, *arguments: object) -> tuple[float, int, str]:
    """Run a program: its seconds, the largest memory of its processes in bytes, what it printed."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.1)
    seconds = time.perf_counter() - begun
    printed = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"a program failed with status {process.returncode}")
    return seconds, peak, printed


def best(rounds: list[tuple[float, int, str]]) -> dict:
    """The shortest time and the largest memory."""
    return {"seconds": min(r[0] for r in rounds), "peak_bytes": max(r[1] for r in rounds)}


def memory(pid: int) -> int:
    """Proportional set size of a process and its children; resident size where the system has no such figure."""
    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                full = process.memory_full_info()
                total += getattr(full, "pss", 0) or full.rss
    return total


def measure(folder: Path, images: int, annotations: int) -> dict:
    """All three, on a download below `folder` that is made if it is not there."""
    source = folder / f"download-{images}-{annotations}"
    path = source / "annotations" / "LIVECell" / "livecell_coco_train.json"
    if not (source / "complete").is_file():
        write_download(source, images, annotations)
        (source / "complete").touch()
    path.read_bytes()  # both find it in the system's cache
    root = folder / "root"
    loads, preparations = [], []
    for _ in range(ROUNDS):  # in turns, so that whatever else the machine does slows both alike
        loads.append(measured(LOAD, path))
        preparations.append(measured(PREPARE, CARD, source, root))
    opened = [measured(OPEN, CARD, root) for _ in range(3)]
    seconds, found_images, instances = min((line.split() for _, _, line in opened), key=lambda part: float(part[0]))
    if (int(found_images), int(instances)) != (images, annotations):
        raise SystemExit(f"prepared {found_images} images and {instances} instances of {images} and {annotations}")
    kept = sum(f.stat().st_size for f in prepared_folder(load_card(CARD), root).iterdir() if f.is_file())
    return {
        "images": images,
        "annotations": annotations,
        "json_bytes": path.stat().st_size,
        "prepared_bytes": kept,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "coco": best(loads),
        "prepare": best(preparations),
        "open": {"seconds": float(seconds), "peak_bytes": max(peak for _, peak, _ in opened)},
    }


def table(result: dict) -> str:
    lines = [
        f"{result['images']} images, {result['annotations']} polygons, {result['json_bytes'] / 1e6:.0f} MB of JSON "
        f"({result['prepared_bytes'] / 1e6:.0f} MB prepared, images aside), {result['cores']} cores",
        "                      seconds   peak memory (MB)",
    ]
    names = {"coco": "pycocotools.COCO()", "prepare": "prepare", "open": "open prepared"}
    for key, name in names.items():
        lines.append(f"{name:<20} {result[key]['seconds']:>8.2f} {result[key]['peak_bytes'] / 1e6:>18.0f}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=3253)
    parser.add_argument("--annotations", type=int, default=500_000)
    parser.add_argument("--folder", type=Path, help="keep the generated download here; default a temporary folder")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        result = measure(folder, arguments.images, arguments.annotations)
    print(json.dumps(result, indent=2) if arguments.json else table(result))
    slower = [k for k in ("seconds", "peak_bytes") if result["prepare"][k] >= result["coco"][k]]
    if slower or result["open"]["seconds"] >= BAR:
        print(f"not met: {', '.join(slower) or 'opening'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
