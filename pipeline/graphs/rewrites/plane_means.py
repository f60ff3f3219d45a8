"""Means over H and W that drop these axes, which no delegate takes, as means that keep them.

::

    x.mean((2, 3))     →  mean((2, 3), keepdim) → flatten
    x.mean(3).mean(2)  →  mean((2, 3), keepdim) → flatten

A mean over more than 2,048 values is taken by windows first (``units.Mean``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.patterns import Pattern, is_call
from pipeline.graphs.shapes import shape_of
from pipeline.graphs.units import plane_mean

aten: Any = torch.ops.aten

PLANE = {2, 3}
"""The axes H and W."""


def _mean(node: Node) -> nn.Module | None:
    """``x.mean((2, 3))``; one that keeps its axes is well as it is, unless its sum is long."""
    source, axes, keep = arguments_of(node, None, None, False)
    if len(shape_of(source)) != 4 or {axis % 4 for axis in axes or ()} != PLANE:
        return None
    mean = plane_mean(source, keep)
    return mean if mean.windows or not keep else None


def _two_means(node: Node) -> tuple[nn.Module, Node, str] | None:
    """``x.mean(3).mean(2)``."""
    inner, axes, keep = arguments_of(node, None, None, False)
    if not is_call(inner, aten.mean.dim) or len(inner.users) != 1 or keep or len(axes or ()) != 1:
        return None
    source, inner_axes, inner_keep = arguments_of(inner, None, None, False)
    if len(shape_of(source)) != 4 or inner_keep or len(inner_axes or ()) != 1:
        return None
    first = inner_axes[0] % 4
    left = [axis for axis in range(4) if axis != first]
    return (plane_mean(source, keep=False), source, "mean") if {first, left[axes[0] % 3]} == PLANE else None


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.mean.dim: _mean}

PATTERNS: dict[Any, Pattern] = {aten.mean.dim: _two_means}
