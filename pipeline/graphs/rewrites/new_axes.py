"""New axes of one value, other than the first and the last, as reshapes.

::

    x[:, None]   →   reshape
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten


class Reshape(nn.Module):
    """Another shape of each image."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, …]`` to ``[N, *shape]``."""
        return x.reshape(-1, *self.shape)


def _unsqueeze(node: Node) -> nn.Module | None:
    """A new last axis is well as it is; before the batch nothing can come."""
    source, axis = arguments_of(node, None, None)
    rank = source.meta["val"].dim() + 1
    return Reshape(shape_of(node)[1:]) if axis % rank not in (0, rank - 1) else None


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.unsqueeze.default: _unsqueeze}
