"""The tool's side of an external method: runs in the tool's own interpreter, needs numpy there and nothing of ours.

Usage: ``python _external_worker.py SCRIPT``, where the file SCRIPT defines

- ``segment(model, image)``: the instances of one image, an array (H, W) or (H, W, C) of uint8 or uint16. It returns
  a label image (H, W) of integers or masks (N, H, W) of bool, or a pair of one of these and the N scores (those of
  labels in ascending order);
- ``load(options)``, if it needs one: whatever ``segment`` is to be given as its ``model``. The options are the
  method's settings, ``device``, and ``weights`` (a path or None).

It reads one request a line and answers each with a line, JSON both. The first request is ``{"options": {...}}``, each
further one ``{"image": FILE.npy, "answer": FILE.npz}``. An answer is ``{"ok": true}`` or ``{"error": ...,
"where": ...}``. Whatever the tool prints goes to standard error, so it cannot garble the answers. It ends with its
input.

This file must run on every Python 3.8 and later.
"""

import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path

import numpy as np


def main(script):
    """Serve requests until the input ends."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_RDONLY)
    os.dup2(silence, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    model = tool = None
    for line in requests:
        request = json.loads(line)
        try:
            if "options" in request:
                tool = _import(script)
                model = tool.load(request["options"]) if hasattr(tool, "load") else None
            else:
                image = np.load(request["image"], allow_pickle=False)
                _write(request["answer"], tool.segment(model, image))
            answer = {"ok": True}
        except Exception as error:  # noqa: BLE001 - a tool may raise anything; it is told on, not swallowed
            traceback.print_exc()
            frame = traceback.extract_tb(error.__traceback__)[-1]
            answer = {
                "error": f"{type(error).__name__}: {error}",
                "where": f"{Path(frame.filename).name}:{frame.lineno}",
            }
        sys.stderr.flush()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _import(script):
    # Our adapters may be called like the tools: what is installed goes first, and this file's folder goes.
    own = Path(__file__).resolve().parent
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != own]
    sys.path.append(str(Path(script).resolve().parent))
    spec = importlib.util.spec_from_file_location("tool", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write(path, returned):
    found, scores = returned if isinstance(returned, tuple) else (returned, None)
    arrays = {"found": np.asarray(found)}
    if scores is not None:
        arrays["scores"] = np.asarray(scores, dtype=np.float64)
    np.savez(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
