"""Pixel losses of the dense methods: small functions of logits, targets and weights.

Imports torch: import it inside the methods that need it, never at the top of a method's module.
Every loss is the mean over all pixels of the batch of weight x loss; a pixel of weight 0 (a region whose truth is
unknown) pulls in no direction.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def binary_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted binary cross-entropy: the mean of ``-w (y log p + (1 - y) log(1 - p))``, p = sigmoid(logit).

    Lin and Norouzi 2022, equation 2, where p_t is the softmax probability of the true class of pixel t: a softmax
    over two logits is the sigmoid of their difference. Their sum is a mean here, so that the step does not grow
    with the size of the image.

    Args:
        logits: (N, K, H, W) float, one map a class.
        target: the same shape, 0 or 1, any dtype.
        weight: the same shape, 0 or more, any dtype.

    Returns:
        a scalar.
    """
    return functional.binary_cross_entropy_with_logits(logits, target.to(logits), weight.to(logits))


def focal(logits: Tensor, target: Tensor, weight: Tensor, *, gamma: float, alpha: float) -> Tensor:
    """Focal loss: the mean of ``-w a_t (1 - p_t)^gamma log p_t``.

    p_t is p where the target is 1 and 1 - p elsewhere, a_t is alpha and 1 - alpha.
    Source: T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5; its sum over anchors
    divided by the number of objects is a mean over pixels here.

    Args:
        logits: (N, K, H, W) float, one map a class.
        target: the same shape, 0 or 1, any dtype.
        weight: the same shape, 0 or more, any dtype.
        gamma: how much the pixels that are right already are turned down; 0 gives cross-entropy.
        alpha: weight of foreground against background, within [0, 1].

    Returns:
        a scalar.
    """
    truth = target.to(logits)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    p = torch.sigmoid(logits)
    wrong = p + truth - 2 * p * truth
    balance = alpha * truth + (1 - alpha) * (1 - truth)
    return (weight.to(logits) * balance * wrong**gamma * cross_entropy).mean()


def foreground_logits(pairs: Tensor) -> Tensor:
    """From the two logits of a two-way softmax to the one of a sigmoid: foreground minus background.

    Args:
        pairs: (N, 2K, H, W), for each of K classes background, then foreground.

    Returns:
        (N, K, H, W); its sigmoid is the softmax probability of the foreground.
    """
    return pairs[:, 1::2] - pairs[:, 0::2]


def squared_error(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean squared error of probabilities: the mean of ``w (p - y)^2``, p = sigmoid(logit).

    Source: MU-Lux-CZ's description in the Cell Tracking Challenge ("weighted mean squared error"). Over both
    channels of a two-way softmax the mean is the same.

    Args:
        logits: (N, K, H, W) float.
        target: the same shape, 0 or 1, any dtype.
        weight: the same shape, 0 or more, any dtype.

    Returns:
        a scalar.
    """
    return (weight.to(logits) * (torch.sigmoid(logits) - target.to(logits)) ** 2).mean()


def dice(logits: Tensor, target: Tensor, weight: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    """Soft Dice loss over all pixels of the batch: ``1 - 2 sum(p y) / (sum(p^2) + sum(y^2) + epsilon)``.

    Source: Instance-U-Net with watershed, section 4.2, with p the probability of the foreground, sigmoid(logit).

    Args:
        logits: (N, K, H, W) float.
        target: the same shape, 0 or 1, any dtype.
        weight: the same shape; every term is multiplied by it.
        epsilon: keeps an empty batch from dividing by zero.

    Returns:
        a scalar.
    """
    p, y, w = torch.sigmoid(logits), target.to(logits), weight.to(logits)
    return 1 - 2 * (w * p * y).sum() / ((w * p * p).sum() + (w * y * y).sum() + epsilon)


UNKNOWN = 255
"""A pixel whose class is not known, in the targets of the losses of several classes."""


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The mean of ``-log p_y`` over the pixels whose class is known, p the softmax over classes.

    Args:
        logits: (N, K, H, W) float.
        target: (N, H, W), classes 0..K-1 or :data:`UNKNOWN`.

    Returns:
        a scalar; 0 where no pixel is known.
    """
    total = functional.cross_entropy(logits, target.long(), ignore_index=UNKNOWN, reduction="sum")
    return total / (target != UNKNOWN).sum().clamp(min=1)


def j_regularisation(logits: Tensor, target: Tensor, *, strength: float, epsilon: float = 1e-8) -> Tensor:
    """How far each class is from being told from each other one, by Youden's J of soft decisions.

    ``-sum over i != k of strength log(1/2 + 1/2 (mean of p_i where y = i - mean of p_i where y = k) + epsilon)``, the
    means over all pixels of the batch; a class that does not occur in it is in no pair.
    Source: F. A. Guerrero Pena et al., "J Regularization Improves Imbalanced Multiclass Segmentation", 2019, and the
    authors' public package jcell, which pools over the batch.

    Args:
        logits: (N, K, H, W) float; p is their softmax over K.
        target: (N, H, W), classes 0..K-1 or :data:`UNKNOWN`.
        strength: of every pair.
        epsilon: keeps the logarithm finite.

    Returns:
        a scalar, at least 0 up to ``epsilon``.
    """
    classes = logits.shape[1]
    p = logits.softmax(dim=1).transpose(0, 1).flatten(1)  # classes, pixels
    known = target.flatten() != UNKNOWN
    one_hot = functional.one_hot(target.flatten()[known].long(), classes).to(p)
    counts = one_hot.sum(dim=0)
    means = p[:, known] @ one_hot / counts.clamp(min=1)  # [i, k]: mean of p_i where y = k
    pairs = torch.log(0.5 + 0.5 * (means.diagonal()[:, None] - means) + epsilon)
    present = counts > 0
    counted = present[:, None] & present[None] & ~torch.eye(classes, dtype=torch.bool, device=p.device)
    return -strength * (pairs * counted).sum()


def proposals(
    objectness: Tensor, deltas: Tensor, label: Tensor, target: Tensor, *, sigma: float
) -> tuple[Tensor, Tensor]:
    """Losses of a region proposal network: cross-entropy of the sampled anchors, smooth L1 of the positive ones.

    Both are sums over the batch divided by the number of sampled anchors. The smooth L1 of x is ``(sigma x)^2 / 2``
    where ``|x| < 1 / sigma^2``, else ``|x| - 1 / (2 sigma^2)``.
    Source: S. Ren et al., "Faster R-CNN", 2015, equation 1, which weights the two so that they are about equal.

    Args:
        objectness: (N, 2A, h, w) logits, for each anchor no object, then object.
        deltas: (N, 4A, h, w), for each anchor dx, dy, dw, dh.
        label: (N, A, h, w), 1 object, 0 none, -1 not sampled.
        target: (N, 4A, h, w), what ``deltas`` should be where ``label`` is 1.
        sigma: see above.

    Returns:
        two scalars, 0 where nothing was sampled.
    """
    sampled, positive = label >= 0, label == 1
    logits = foreground_logits(objectness)
    count = sampled.sum().clamp(min=1)
    wrong = functional.binary_cross_entropy_with_logits(logits, positive.to(logits), reduction="none")
    distance = functional.smooth_l1_loss(deltas, target.to(deltas), beta=1 / sigma**2, reduction="none")
    off = distance.unflatten(1, (-1, 4)).sum(dim=2)
    return (wrong * sampled).sum() / count, (off * positive).sum() / count
