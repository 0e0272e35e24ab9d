"""InstanSeg in its own interpreter, with a TorchScript model by path. Nothing is downloaded."""

import numpy as np


def load(options):
    """The model of ``options["weights"]``."""
    import torch
    from instanseg import InstanSeg

    network = torch.jit.load(options["weights"], map_location="cpu")
    device = "cuda" if options["gpu"] else "cpu"
    return InstanSeg(model_type=network, image_reader="tiffslide", device=device, verbosity=0), options


def segment(loaded, image):
    """Label image of one image."""
    model, options = loaded
    pixel = options["pixel_size"] or None
    labels = model.eval_small_image(image, pixel_size=pixel, return_image_tensor=False)
    return np.asarray(labels[0, 0].cpu()).astype(np.int32)
