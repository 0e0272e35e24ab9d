"""InstanSeg in its own interpreter: a TorchScript model by path, or one trained from scratch. Nothing is downloaded."""

import copy
import json
import math
import os
import random
import runpy
import sys
from itertools import islice
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np

TRAINED = "trained_here.json"
"""What a model that was trained here carries along: the pixel size that its training images were taken to have."""
WORKERS = 3
"""Processes that cut and turn crops (the package's default); their number decides the random draws."""


def load(options):
    """The package's predictor around the model of ``options["weights"]``, and how to hand it an image."""
    import torch
    from instanseg import InstanSeg

    noted = {TRAINED: ""}
    network = torch.jit.load(options["weights"], map_location="cpu", _extra_files=noted)
    trained = json.loads(noted[TRAINED]) if noted[TRAINED] else None
    pixel = options["pixel_size"] or None
    if trained is not None and not trained["pixel_size"]:
        if pixel is not None:
            raise ValueError("these weights were trained without a pixel size: leave the setting pixel_size out")
        pixel = 1.0
    elif trained is not None and pixel is None:
        raise ValueError("these weights were trained with a pixel size: give the setting pixel_size")
    if pixel is not None and not network.pixel_size > 0:
        raise ValueError("this model was exported without a pixel size: leave the setting pixel_size out")
    device = _device(options)
    model = InstanSeg(model_type=network, image_reader="skimage.io", device=device, verbosity=0)
    # The package cuts a window around each seed, and fails where the image that the network sees is smaller.
    window = 2 * int(getattr(network, "default_window_size", 32))
    least = math.ceil(window * float(network.pixel_size) / pixel) + 1 if pixel else window
    return model, trained is not None, pixel, least


def segment(loaded, image):
    """Label image of one image."""
    model, trained, pixel, least = loaded
    height, width = image.shape[:2]
    given = _colour(image) if trained else image
    missing = [(0, max(0, least - side)) for side in (height, width)]
    given = np.pad(given, missing + [(0, 0)] * (given.ndim - 2), mode="edge")
    given = np.moveaxis(given[..., None] if given.ndim == 2 else given, 2, 0).astype(np.float32)
    small = given.size < model.small_image_threshold
    evaluate = model.eval_small_image if small else model.eval_medium_image
    labels = evaluate(given, pixel_size=pixel, return_image_tensor=False)
    return np.asarray(labels[0, 0].cpu()).astype(np.int32)[:height, :width]


def train(images, truths, options, folder, report, validation):
    """Train the package's network by its loop, loss and augmentation, and export it as the package does.

    As there, the weights with the best F1 on validation images are kept.
    """
    runpy.run_path(str(Path(__file__).parents[1] / "_external_torchvision.py"))
    import torch
    from instanseg.scripts.train import parser
    from instanseg.utils.AI_utils import test_epoch, train_epoch
    from instanseg.utils.data_loader import get_loaders
    from instanseg.utils.loss.instanseg_loss import InstanSeg, InstanSeg_Torchscript
    from instanseg.utils.model_loader import build_model_from_dict

    held_images, held_truths = validation
    if min(min(truth.shape) for truth in [*truths, *held_truths]) < 16:
        raise ValueError("a training or validation image has a side of fewer than 16 pixels")
    random.seed(options["seed"])
    np.random.seed(options["seed"] % 2**32)
    torch.manual_seed(options["seed"])
    pixel, model_pixel = _pixel_sizes(truths, options)
    device = _device(options)

    arguments = parser.parse_args([])  # the defaults of the package's training script
    arguments.cells_and_nuclei = False
    arguments.on_cluster = True  # no progress bars
    arguments.device = device
    arguments.layers = list(options["widths"])
    arguments.lr = options["learning_rate"]
    arguments.tile_size = options["crop"]
    arguments.requested_pixel_size = model_pixel
    arguments.batch_size = options["batch_size"]
    arguments.num_workers = WORKERS
    crops_an_epoch = arguments.length_of_epoch

    loss = InstanSeg(
        n_sigma=arguments.n_sigma,
        device=device,
        binary_loss_fn_str=arguments.binary_loss_fn,
        seed_loss_fn=arguments.seed_loss_fn,
        window_size=arguments.window_size,
        feature_engineering_function=arguments.feature_engineering,
        bg_weight=arguments.bg_weight,
        dim_coords=arguments.dim_coords,
        dim_seeds=arguments.dim_seeds,
    )
    arguments.dim_out = loss.dim_out
    network = build_model_from_dict(vars(arguments))
    network = loss.initialize_pixel_classifier(network, MLP_width=arguments.mlp_width).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=arguments.lr, weight_decay=arguments.weight_decay)

    pictures = [_colour(image) for image in images]
    # The package wants something to look at in any case.
    held = [_colour(image) for image in held_images] or pictures[:1]
    about, held_about = ([{"parent_dataset": "bench", "pixel_size": pixel} for _ in some] for some in (images, held))
    first = min(options["hotstart"], options["steps"] // 3)
    stages = (
        (first, "binary_xloss", "dice_loss"),
        (options["steps"] - first, arguments.seed_loss_fn, arguments.binary_loss_fn),
    )
    done, best, kept = 0, -math.inf, None
    for number, (steps, seed_loss, binary_loss) in enumerate(stages):
        if not steps:
            continue
        loss.update_seed_loss(seed_loss)
        loss.update_binary_loss(binary_loss)
        # The package fails below 5 crops.
        arguments.length_of_epoch = max(5, min(crops_an_epoch, steps * arguments.batch_size))
        loader, look = get_loaders(pictures, truths, held, held_truths or truths[:1], about, held_about, arguments)
        a_pass = math.ceil(arguments.length_of_epoch / arguments.batch_size)
        for begun in range(0, steps, a_pass):
            taken = min(a_pass, steps - begun)
            counted = _counted(islice(loader, taken), lambda step, before=done: report(before + step, options["steps"]))
            mean, seconds = train_epoch(network, device, counted, loss, optimizer, arguments)
            done += taken
            said = f"step {done}, {seed_loss} and {binary_loss}: mean loss {mean:.4f}, {seconds:.0f} s"
            if not np.isfinite(mean):
                raise ValueError(f"the loss is no number any more, within the first {done} steps")
            if held_images and number == len(stages) - 1:
                f1 = _f1(network, look, loss, arguments, test_epoch)
                said += f", F1 on validation images {f1:.4f}"
                if f1 > best:
                    best, kept = f1, copy.deepcopy(network.state_dict())
            sys.stdout.write(said + "\n")
    if kept is not None:
        network.load_state_dict(kept)

    exported = InstanSeg_Torchscript(
        network.cpu(),
        cells_and_nuclei=False,
        pixel_size=model_pixel,
        n_sigma=arguments.n_sigma,
        dim_coords=arguments.dim_coords,
        dim_seeds=arguments.dim_seeds,
        backbone_dim_in=arguments.dim_in,
        feature_engineering_function=arguments.feature_engineering,
    )
    path = folder / "instanseg.pt"
    noted = {TRAINED: json.dumps({"pixel_size": options["pixel_size"]})}
    torch.jit.save(torch.jit.script(exported), str(path), _extra_files=noted)
    return path


def _f1(network, look, loss, arguments, test_epoch):
    """Mean F1 over the package's ten thresholds of mask IoU; NaN where no crop has a cell."""
    _, f1, _ = test_epoch(
        network,
        arguments.device,
        look,
        loss,
        arguments,
        postprocessing_fn=loss.postprocessing,
        method=loss,
        iou_threshold=np.linspace(0.5, 1.0, 10),
        best_f1=math.inf,  # else it draws a figure
    )
    return float(f1[0])


def _device(options):
    import torch

    if options["device"] != "cpu" and not torch.cuda.is_available():
        raise ValueError("torch in its environment can use no GPU: run it with --device cpu")
    return options["device"]


def _pixel_sizes(truths, options):
    """Pixel size of the images and of what the network sees; only their ratio matters to the training.

    Where the images' is unknown they are left as they are, unless their objects outgrow the window that the package
    cuts around a seed.
    """
    from scipy import ndimage

    if options["pixel_size"]:
        return float(options["pixel_size"]), float(options["model_pixel_size"])
    sides = [
        max(box[0].stop - box[0].start, box[1].stop - box[1].start)
        for truth in truths
        for box in ndimage.find_objects(truth)
        if box is not None
    ]
    if not sides:
        raise ValueError("no training image has a cell")
    return 1.0, max(1.0, float(np.percentile(sides, 95)) / options["largest"])


def _counted(batches, report):
    """The batches, telling how many are done."""
    for step, batch in enumerate(batches, 1):
        yield batch
        report(step)


def _colour(image):
    """(H, W, 3): gray three times, as the package's own augmentation does; alpha dropped."""
    if image.ndim == 2:
        image = image[..., None]
    image = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
