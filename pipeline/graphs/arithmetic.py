"""The operators of arithmetic with two operands."""

from __future__ import annotations

from typing import Any

import torch

aten: Any = torch.ops.aten

SUMS = {aten.add.Tensor, aten.sub.Tensor}
PRODUCTS = {aten.mul.Tensor, aten.div.Tensor}
COMMUTING = {aten.add.Tensor, aten.mul.Tensor}
