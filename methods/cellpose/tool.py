"""Cellpose in its own interpreter, version 3 (trained from scratch) or 4 (weights by path). Nothing is downloaded."""

import math
import runpy
from pathlib import Path

import numpy as np


def load(options):
    """The model of ``options["weights"]``."""
    if _version() >= 4:
        runpy.run_path(str(Path(__file__).parents[1] / "_external_torchvision.py"))
    from cellpose import models

    network = {"diam_mean": 30.0} if _version() < 4 else {}
    device = _device(options)
    model = models.CellposeModel(
        gpu=device.type == "cuda", device=device, pretrained_model=options["weights"], **network
    )
    return model, options


def segment(loaded, image):
    """Label image of one image."""
    model, options = loaded
    arguments = {"channels": [0, 0]} if _version() < 4 else {}
    masks, *_ = model.eval(
        _prepared(image),
        flow_threshold=options["flow_threshold"],
        cellprob_threshold=options["cellprob_threshold"],
        min_size=options["min_size"],
        **arguments,
    )
    return np.asarray(masks).astype(np.int32).reshape(image.shape[:2])  # the package drops sides of one pixel


def train(images, truths, options, folder, report):
    """Train Cellpose 3 from random weights."""
    import torch
    from cellpose import models
    from cellpose import train as training

    torch.manual_seed(options["seed"])
    np.random.seed(options["seed"])
    kept = [i for i, truth in enumerate(truths) if len(np.unique(truth)) - 1 >= options["min_train_masks"]]
    if not kept:
        raise ValueError(f"no training image has {options['min_train_masks']} cells or more")
    device = _device(options)
    model = models.CellposeModel(gpu=device.type == "cuda", device=device, pretrained_model=False)
    per_epoch = math.ceil(len(kept) / options["batch_size"])
    epochs = max(1, math.ceil(options["steps"] / per_epoch))
    original, begun = model.net.train, [0]

    def counted(mode=True):
        """The library calls it at the head of every epoch."""
        if mode:
            report(min(begun[0], epochs), epochs)
            begun[0] += 1
        return original(mode)

    model.net.train = counted
    path, *_ = training.train_seg(
        model.net,
        train_data=[_prepared(images[i]) for i in kept],
        train_labels=[truths[i].astype(np.int32) for i in kept],
        channels=[0, 0],
        batch_size=options["batch_size"],
        n_epochs=epochs,
        learning_rate=options["learning_rate"],
        weight_decay=options["weight_decay"],
        SGD=options["optimizer"] == "SGD",
        min_train_masks=options["min_train_masks"],
        bsize=options["crop"],
        save_path=folder,
        save_every=10**9,
        model_name="cellpose",
    )
    report(epochs, epochs)
    return path


def _device(options):
    import torch

    device = torch.device(options["device"])
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch in its environment can use no GPU: run it with --device cpu")
    return device


def _prepared(image):
    """One gray channel; Cellpose scales it by its own percentiles."""
    return image[..., :3].mean(axis=2).astype(np.float32) if image.ndim == 3 else image.astype(np.float32)


def _version():
    from importlib.metadata import version

    return int(version("cellpose").partition(".")[0])
