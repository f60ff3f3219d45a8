"""SiLU as two operators, of which the product runs in int8.

::

    silu(x)   →   x · sigmoid(x)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.zoo.units.activations import SiLU

aten: Any = torch.ops.aten


def _silu(node: Node) -> nn.Module:
    del node
    return SiLU()


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.silu.default: _silu}
