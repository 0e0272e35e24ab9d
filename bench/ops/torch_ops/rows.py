"""Weighted sums of the rows of a table: what RoIAlign and deformable convolution come down to.

A feature map with its channels last is a table with a row a pixel, and every bilinearly interpolated value is a
weighted sum of a few rows: the product of a sparse matrix and the table. torch's ``embedding_bag`` computes that
product fast and in a fixed order of additions, and the gradient is the product with the transposed matrix, so both
directions give the same bits on every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class RowWeights:
    """A sparse matrix of ``len(starts) - 1`` rows and ``columns`` columns, row by row.

    Attributes:
        index: int64 (E,), the column of each entry; the entries of a row follow each other.
        weight: floating (E,), the value of each entry.
        starts: int64 (B + 1,), where each row starts in ``index``; the last value is E.
        columns: how many columns the matrix has: rows of the table that it multiplies.
    """

    index: Tensor
    weight: Tensor
    starts: Tensor
    columns: int

    def times(self, table: Tensor) -> Tensor:
        """The product with a table.

        Args:
            table: floating (columns, C).

        Returns:
            (B, C), of the table's dtype; a row without entries gives zeros.
        """
        if self.index.numel() == 0 or table.shape[1] == 0:
            return table.new_zeros(self.starts.numel() - 1, table.shape[1])
        return functional.embedding_bag(
            self.index,
            table.contiguous(),
            self.starts,
            mode="sum",
            per_sample_weights=self.weight.to(table.dtype),
            include_last_offset=True,
        )

    def transposed(self) -> RowWeights:
        """The transposed matrix; the entries of its rows keep the order of this one's rows."""
        row_of_entry, _ = ragged(self.starts.diff())
        index, order = torch.sort(self.index, stable=True)
        starts = torch.searchsorted(index, torch.arange(self.columns + 1, device=index.device))
        return RowWeights(row_of_entry[order], self.weight[order], starts, self.starts.numel() - 1)


def uniform(index: Tensor, weight: Tensor, columns: int) -> RowWeights:
    """The matrix whose rows all have the same number of entries.

    Args:
        index: int64 (..., K), the columns of the K entries of each row.
        weight: floating, of the same shape.
        columns: how many columns the matrix has.
    """
    entries = index.shape[-1]
    starts = torch.arange(0, index.numel() + 1, entries, device=index.device)
    return RowWeights(index.flatten(), weight.flatten(), starts, columns)


def ragged(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Count through groups of different sizes.

    Args:
        counts: int64 (B,), the size of each group.

    Returns:
        int64 (sum of counts,) twice: the group of each member, and its place within the group.
    """
    group = torch.repeat_interleave(counts)
    firsts = counts.cumsum(0) - counts
    return group, torch.arange(group.numel(), device=counts.device) - firsts[group]


def starts_of(counts: Tensor) -> Tensor:
    """Where each group starts when groups of these sizes are laid end to end, int64 (B + 1,)."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def as_table(features: Tensor) -> Tensor:
    """(N, C, H, W) as (N * H * W, C): a row a pixel."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def from_table(table: Tensor, height: int, width: int) -> Tensor:
    """(N * H * W, C) as (N, C, H, W), a view: the inverse of :func:`as_table`."""
    return table.view(-1, height, width, table.shape[1]).permute(0, 3, 1, 2)


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which coordinates and weights are computed for values of ``dtype``: never less than float32."""
    return torch.promote_types(dtype, torch.float32)
