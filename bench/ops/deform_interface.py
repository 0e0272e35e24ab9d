"""Deformable convolution under the names and with the arguments of ``mmcv._ext``, whoever computes it.

mmcv hands over tensors to be filled and some twenty arguments; :func:`operators` turns its five operators into calls of
two functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """How a deformable convolution is laid out. Pairs are (along y, along x).

    Attributes:
        kernel: taps.
        stride: pixels of the input from one output to the next.
        padding: rows and columns of zeros around the input.
        dilation: pixels from one tap to the next.
        groups: groups of channels that are convolved apart.
        deform_groups: groups of channels that are read at the same offsets.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    deform_groups: int

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return self.kernel[0] * self.kernel[1]


@dataclass(frozen=True)
class Gradients:
    """The gradients of a deformable convolution, each of the shape of what it belongs to, or None: not computed."""

    input: Tensor | None = None
    offset: Tensor | None = None
    mask: Tensor | None = None
    weight: Tensor | None = None


class Convolve(Protocol):
    """The forward function."""

    def __call__(
        self, input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry: Geometry
    ) -> Tensor:
        """Convolve.

        Args:
            input: floating (N, C, H, W).
            offset: (N, D * K * 2, H', W'), for each group and tap the offset along y, then along x, in pixels.
            mask: (N, D * K, H', W'), the factor of each tap, or None for the plain form.
            weight: (C', C / groups, kernel height, kernel width).
            geometry: the layout; D is its deformable groups, K its taps.

        Returns:
            (N, C', H', W'), without bias.
        """


class Differentiate(Protocol):
    """The backward function."""

    def __call__(
        self,
        input: Tensor,
        offset: Tensor,
        mask: Tensor | None,
        weight: Tensor,
        grad_output: Tensor,
        geometry: Geometry,
        *,
        of_reading: bool,
        of_weight: bool,
    ) -> Gradients:
        """The gradients of the forward function, given that for its output, (N, C', H', W').

        Args:
            input: as in the forward function, like ``offset``, ``mask``, ``weight`` and ``geometry``.
            offset: see there.
            mask: see there.
            weight: see there.
            grad_output: the gradient of the output.
            geometry: see there.
            of_reading: those of ``input``, ``offset`` and ``mask`` are needed.
            of_weight: that of ``weight`` is needed.
        """


def operators(convolve: Convolve, differentiate: Differentiate) -> dict[str, Callable[..., None]]:
    """mmcv's operators for the plain (v1) and the modulated form (v2), by name.

    They take mmcv's tensors in its order and its settings by keyword; buffers and step sizes, which only its own
    kernels need, are ignored.
    """

    def deform_conv_forward(
        input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **settings: Any
    ) -> None:
        output.copy_(convolve(input, offset, None, weight, _plain_geometry(settings)))

    def deform_conv_backward_input(
        input: Tensor,
        offset: Tensor,
        grad_output: Tensor,
        grad_input: Tensor,
        grad_offset: Tensor,
        weight: Tensor,
        columns: Tensor,
        **settings: Any,
    ) -> None:
        geometry = _plain_geometry(settings)
        found = differentiate(input, offset, None, weight, grad_output, geometry, of_reading=True, of_weight=False)
        _fill((grad_input, found.input), (grad_offset, found.offset))

    def deform_conv_backward_parameters(
        input: Tensor,
        offset: Tensor,
        grad_output: Tensor,
        grad_weight: Tensor,
        columns: Tensor,
        ones: Tensor,
        scale: float = 1,
        **settings: Any,
    ) -> None:
        geometry = _plain_geometry(settings)
        # The gradient of the weights does not depend on them: any tensor of their shape serves.
        found = differentiate(input, offset, None, grad_weight, grad_output, geometry, of_reading=False, of_weight=True)
        assert found.weight is not None
        grad_weight.add_(found.weight, alpha=scale)

    def modulated_deform_conv_forward(
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        ones: Tensor,
        offset: Tensor,
        mask: Tensor,
        output: Tensor,
        columns: Tensor,
        with_bias: bool,
        **settings: Any,
    ) -> None:
        output.copy_(convolve(input, offset, mask, weight, _modulated_geometry(settings)))
        if with_bias:
            output += bias[:, None, None]

    def modulated_deform_conv_backward(
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        ones: Tensor,
        offset: Tensor,
        mask: Tensor,
        columns: Tensor,
        grad_input: Tensor,
        grad_weight: Tensor,
        grad_bias: Tensor,
        grad_offset: Tensor,
        grad_mask: Tensor,
        grad_output: Tensor,
        with_bias: bool,
        **settings: Any,
    ) -> None:
        geometry = _modulated_geometry(settings)
        found = differentiate(input, offset, mask, weight, grad_output, geometry, of_reading=True, of_weight=True)
        _fill(
            (grad_input, found.input),
            (grad_offset, found.offset),
            (grad_mask, found.mask),
            (grad_weight, found.weight),
        )
        if with_bias:
            grad_bias.copy_(grad_output.sum((0, 2, 3)))

    return {
        operator.__name__: operator
        for operator in (
            deform_conv_forward,
            deform_conv_backward_input,
            deform_conv_backward_parameters,
            modulated_deform_conv_forward,
            modulated_deform_conv_backward,
        )
    }


def _fill(*pairs: tuple[Tensor, Tensor | None]) -> None:
    for target, value in pairs:
        assert value is not None
        target.copy_(value)


def _plain_geometry(settings: dict[str, Any]) -> Geometry:
    return Geometry(
        kernel=(settings["kH"], settings["kW"]),
        stride=(settings["dH"], settings["dW"]),
        padding=(settings["padH"], settings["padW"]),
        dilation=(settings["dilationH"], settings["dilationW"]),
        groups=settings["group"],
        deform_groups=settings["deformable_group"],
    )


def _modulated_geometry(settings: dict[str, Any]) -> Geometry:
    return Geometry(
        kernel=(settings["kernel_h"], settings["kernel_w"]),
        stride=(settings["stride_h"], settings["stride_w"]),
        padding=(settings["pad_h"], settings["pad_w"]),
        dilation=(settings["dilation_h"], settings["dilation_w"]),
        groups=settings["group"],
        deform_groups=settings["deformable_group"],
    )
