"""Several operators that are replaced as one: how a rewrite looks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.fx import Node

Pattern = Callable[[Node], "tuple[nn.Module, Node, str] | None"]
"""From the last operator of a pattern: the module that computes the same, what that reads, and its name."""


def is_call(value: Any, *targets: Any) -> bool:
    """Whether a value is the result of one of these operators."""
    return isinstance(value, Node) and value.target in targets


def behind(value: Any, *passed: Any) -> Any:
    """Return what operators of these kinds were given, seen through all of them."""
    while is_call(value, *passed):
        value = value.args[0]
    return value
