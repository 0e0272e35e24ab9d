"""The torch half of a dense method: its network as mmengine trains it, batches, and inference on one piece.

Imports torch and mmengine: import it inside the methods that need it, never at the top of a method's module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from numpy.typing import NDArray
from torch import Tensor, nn

Loss = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]


class DenseModel(BaseModel):
    """A network with its loss, in the shape that mmengine's Runner trains.

    Args:
        network: maps (N, C, H, W) to named outputs.
        loss: of outputs and targets by name, a dictionary of scalars; those with "loss" in their name are summed.
    """

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def forward(self, image: Tensor, targets: Mapping[str, Tensor], mode: str = "loss") -> dict[str, Tensor]:
        """The losses of a batch as :func:`collate` makes it."""
        if mode != "loss":
            raise ValueError(f"a dense model is called for its loss, not for {mode!r}")
        return self._loss(self.network(image), targets)


def collate(examples: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, Any]:
    """Stack training crops: ``image`` apart, every other array under ``targets``."""
    stacked = {name: torch.from_numpy(np.stack([e[name] for e in examples])) for name in examples[0]}
    return {"image": stacked.pop("image"), "targets": stacked}


@torch.inference_mode()
def infer(
    network: nn.Module,
    activate: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    images: Sequence[NDArray[np.float32]],
    device: str,
) -> list[dict[str, NDArray[np.float32]]]:
    """Maps of images or tiles of equal size, in one pass of the network.

    Args:
        network: in evaluation mode, on ``device``.
        activate: from the network's outputs (1, K, H, W) to maps.
        images: (C, H, W) each.
        device: "cpu", "cuda", "cuda:1".

    Returns:
        name -> float32 (K, H, W) of each.
    """
    outputs = network(torch.from_numpy(np.stack(images)).to(device))
    return [
        {
            name: values[0].float().cpu().numpy()
            for name, values in activate({name: maps[i : i + 1] for name, maps in outputs.items()}).items()
        }
        for i in range(len(images))
    ]
