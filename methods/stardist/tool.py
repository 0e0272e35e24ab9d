"""StarDist in its own interpreter, trained from scratch. Nothing is downloaded."""

import math
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

THRESHOLD_IMAGES = 16
"""Validation images on which the thresholds are chosen, at most."""


def load(options):
    """The model in the ZIP archive ``options["weights"]``."""
    from stardist.models import StarDist2D

    _choose_device(options)
    folder = tempfile.mkdtemp(prefix="stardist-")
    with zipfile.ZipFile(options["weights"]) as archive:
        archive.extractall(folder)
    model = StarDist2D(None, name="model", basedir=folder)
    shutil.rmtree(folder)
    return model


def segment(model, image):
    """Label image of one image, and the object probability of each label."""
    from csbdeep.utils import normalize

    labels, details = model.predict_instances(normalize(_gray(image), 1, 99.8))
    return labels.astype(np.int32), np.asarray(details["prob"], np.float64)


def train(images, truths, options, folder, report, validation):
    """Train from random weights; validation images choose the best of them, and the thresholds."""
    import tensorflow as tf
    from csbdeep.utils import normalize
    from stardist.models import Config2D, StarDist2D

    _choose_device(options)
    tf.keras.utils.set_random_seed(options["seed"])
    gray, held = (
        [normalize(_gray(image), 1, 99.8).astype(np.float32) for image in some] for some in (images, validation[0])
    )
    truths, held_truths = ([truth.astype(np.int32) for truth in some] for some in (truths, validation[1]))
    if not held:  # of a single training image none can be held out
        held, held_truths = gray[-1:], truths[-1:]
    side = min(options["crop"], *(16 * (min(image.shape) // 16) for image in gray + held))
    if side < 16:
        raise ValueError("a training or validation image has a side of fewer than 16 pixels")
    per_epoch = min(options["steps_per_epoch"], max(1, options["steps"]))
    epochs = max(1, math.ceil(options["steps"] / per_epoch))
    config = Config2D(
        n_rays=options["rays"],
        grid=(options["grid"], options["grid"]),
        n_channel_in=1,
        train_patch_size=(side, side),
        train_batch_size=options["batch_size"],
        train_epochs=epochs,
        train_steps_per_epoch=per_epoch,
        train_learning_rate=options["learning_rate"],
        train_tensorboard=False,
        use_gpu=options["device"] != "cpu",
    )
    model = StarDist2D(config, name="model", basedir=str(folder))

    class Report(tf.keras.callbacks.Callback):
        """Tells of every step."""

        done = 0

        def on_train_batch_end(self, batch, logs=None):
            self.done += 1
            report(self.done, epochs * per_epoch)

    model.prepare_for_training()
    model.callbacks.append(Report())
    model.train(gray, truths, validation_data=(held, held_truths), augmenter=_turned, seed=options["seed"])
    if not any(truth.any() for truth in held_truths):  # without a cell one threshold is as good as another
        held, held_truths = gray, truths
    every = math.ceil(len(held) / THRESHOLD_IMAGES)
    model.optimize_thresholds(held[::every], held_truths[::every])
    packed = Path(folder) / "weights.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted((Path(folder) / "model").iterdir()):
            if file.name in ("config.json", "thresholds.json", "weights_best.h5"):
                archive.write(file, f"model/{file.name}")
    return packed


def _choose_device(options):
    """Before TensorFlow computes anything: the asked GPU and no other, or none."""
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    if options["device"] == "cpu":
        tf.config.set_visible_devices([], "GPU")
        return
    number = int(options["device"].partition(":")[2] or 0)
    if number >= len(found):
        raise ValueError(f"TensorFlow in its environment can use {len(found)} GPUs: run it with --device cpu")
    tf.config.set_visible_devices(found[number : number + 1], "GPU")
    tf.config.experimental.set_memory_growth(found[number], True)


def _gray(image):
    return image[..., :3].mean(axis=2) if image.ndim == 3 else image


def _turned(image, truth):
    """Flips, right angles, and other brightness and contrast, as in the authors' own examples."""
    turns, flip = np.random.randint(4), np.random.rand() < 0.5
    image, truth = np.rot90(image, turns), np.rot90(truth, turns)
    if flip:
        image, truth = image[:, ::-1], truth[:, ::-1]
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    return np.ascontiguousarray(image), np.ascontiguousarray(truth)
