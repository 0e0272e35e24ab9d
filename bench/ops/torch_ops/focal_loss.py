"""The focal losses (Lin et al., Focal Loss for Dense Object Detection, 2017), under the names of ``mmcv._ext``.

mmcv has them compiled for CUDA only; these work on every device. Logarithms are taken of at least the smallest normal
float32, as there.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = torch.finfo(torch.float32).tiny


def _weight_of_rows(weight: Tensor, target: Tensor) -> Tensor | None:
    """The weight of each row's class, (N,); 1 for rows of no class (background). None where there are no weights."""
    if weight.numel() == 0:
        return None
    known = (target >= 0) & (target < len(weight))
    return torch.where(known, weight[torch.where(known, target, 0)], 1)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """The loss of each class of each row.

    Args:
        input: floating (N, C), logits.
        target: int64 (N,), the class of each row; C, or any other number that is no class, is background.
        weight: (C,), a factor for the rows of each class, or empty.
        output: (N, C), overwritten.
        gamma: how strongly easy examples count less.
        alpha: weight of the positive examples; the negative ones have 1 - alpha.
    """
    positive = target[:, None] == torch.arange(input.shape[1], device=input.device)
    p = input.sigmoid()
    q = 1 - p
    output.copy_(
        torch.where(
            positive,
            -alpha * q**gamma * p.clamp(min=SMALLEST).log(),
            -(1 - alpha) * p**gamma * q.clamp(min=SMALLEST).log(),
        )
    )
    factor = _weight_of_rows(weight, target)
    if factor is not None:
        output *= factor[:, None]


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Overwrite ``grad_input`` (N, C) with the derivative of each loss; the other arguments as in the forward call."""
    positive = target[:, None] == torch.arange(input.shape[1], device=input.device)
    p = input.sigmoid()
    q = 1 - p
    grad_input.copy_(
        torch.where(
            positive,
            -alpha * q**gamma * (q - gamma * p * p.clamp(min=SMALLEST).log()),
            -(1 - alpha) * p**gamma * (gamma * q * q.clamp(min=SMALLEST).log() - p),
        )
    )
    factor = _weight_of_rows(weight, target)
    if factor is not None:
        grad_input *= factor[:, None]


def _probability_of_target(softmax: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The probability of each row's class, (N,), and whether the row has one, bool (N,)."""
    known = (target >= 0) & (target < softmax.shape[1])
    return softmax.gather(1, torch.where(known, target, 0)[:, None])[:, 0], known


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """The loss of each row.

    Args:
        input: floating (N, C), probabilities: the softmax of the logits.
        target: int64 (N,), the class of each row; rows with a number that is no class have no loss.
        weight: (C,), a factor for the rows of each class, or empty.
        output: (N,), overwritten.
        gamma: how strongly easy examples count less.
        alpha: a factor for all.
    """
    p, known = _probability_of_target(input, target)
    output.copy_(torch.where(known, -alpha * (1 - p) ** gamma * p.clamp(min=SMALLEST).log(), 0))
    factor = _weight_of_rows(weight, target)
    if factor is not None:
        output *= factor


def softmax_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Overwrite ``grad_input`` (N, C) with the derivative of each row's loss for its logits, ``buff`` with a factor.

    The other arguments are those of the forward call.
    """
    p, known = _probability_of_target(input, target)
    q = 1 - p
    slope = alpha * (gamma * q ** (gamma - 1) * p * p.clamp(min=SMALLEST).log() - q**gamma)
    buff.copy_(torch.where(known, slope, 0))
    factor = _weight_of_rows(weight, target)
    if factor is not None:
        buff *= factor
    own = target[:, None] == torch.arange(input.shape[1], device=input.device)
    grad_input.copy_(buff[:, None] * (own.to(input.dtype) - input))
