"""Modules whose operators stay in float in an int8 file, because int8 steps between them would cost accuracy."""

from __future__ import annotations

from typing import ClassVar

from torch import nn
from torch.fx import Node


class FloatRegion(nn.Module):
    """Base class of modules that compute in float between an int8 input and an int8 output.

    ::

        int8 → dequantize → exp → log → … → quantize → int8

    Operators are recognised by the classes of the modules that wrote them, which a capture records by name.
    """

    NAMES: ClassVar[set[str]] = set()

    def __init_subclass__(cls) -> None:
        """Register the subclass under the name that a capture records."""
        super().__init_subclass__()
        FloatRegion.NAMES.add(f"{cls.__module__}.{cls.__qualname__}")


def in_float_region(node: Node) -> bool:
    """Whether an operator was written by a module that computes in float."""
    return any(str(kind) in FloatRegion.NAMES for _, kind in node.meta.get("nn_module_stack", {}).values())
