"""The tool's side of a training: runs in the tool's own interpreter, needs numpy there and nothing of ours.

Usage: ``python _external_trainer.py REQUEST.json``; see :mod:`methods._external_training`. It writes a line of JSON a
report, ``{"done": n, "total": m}``, and a last one, ``{"weights": PATH}`` or ``{"error": ..., "where": ...}``. Whatever
the tool prints goes to standard error. This file must run on every Python 3.8 and later.
"""

import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path

import numpy as np


def main(request):
    """Train, and say how it went."""
    request = json.loads(Path(request).read_text(encoding="utf-8"))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def say(answer):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        script = Path(request["script"])
        # Our adapters may be called like the tools: what is installed goes first, and this file's folder goes.
        own = Path(__file__).resolve().parent
        sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != own]
        sys.path.append(str(script.resolve().parent))
        spec = importlib.util.spec_from_file_location("tool", script)
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        images, truths = _read(request["examples"])
        more = {}
        if request["validation"] is not None:
            more["validation"] = _read(request["validation"])
        weights = tool.train(
            images,
            truths,
            request["options"],
            Path(request["folder"]),
            lambda done, total: say({"done": int(done), "total": int(total)}),
            **more,
        )
        say({"weights": str(weights)})
    except Exception as error:  # noqa: BLE001 - a tool may raise anything; it is told on, not swallowed
        traceback.print_exc()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        lines = str(error).splitlines()
        text = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        say({"error": text, "where": f"{Path(frame.filename).name}:{frame.lineno}"})


def _read(paths):
    """Images, and label images, of files."""
    images, truths = [], []
    for path in paths:
        with np.load(path, allow_pickle=False) as archive:
            images.append(archive["image"])
            truths.append(archive["truth"])
    return images, truths


if __name__ == "__main__":
    main(sys.argv[1])
