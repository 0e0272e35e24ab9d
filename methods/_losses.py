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
