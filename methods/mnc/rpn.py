"""Stage 1: a region proposal network whose proposals pass gradients back to its box regressor."""

from __future__ import annotations

from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from methods._rpn import OneMapRPNHead
from methods.mnc.warp import limit_gradient


@MODELS.register_module()
class MNCRPNHead(OneMapRPNHead):
    """RPN on one feature map.

    Args:
        gradient_limit: what the later stages tell a box delta through the RoI warp is clipped to this.
        arguments: of MMDetection's ``RPNHead``.
    """

    def __init__(self, gradient_limit: float = 1 / 512, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.gradient_limit = gradient_limit

    def passed_on(self, deltas: Tensor) -> Tensor:
        """The box deltas (N, 4) of the chosen proposals, whose gradient is limited."""
        return limit_gradient(deltas, self.gradient_limit)
