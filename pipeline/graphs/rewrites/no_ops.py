"""Operators that give what they are given.

::

    alias(x)   →   x
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

aten: Any = torch.ops.aten

UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.alias.default: lambda _node: nn.Identity()}
