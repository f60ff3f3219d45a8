"""The arguments of a graph's operators, as rewrites read them."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from pipeline.compat.torch import argument_names, default_of


def arguments_of(node: Node, *defaults: Any) -> list[Any]:
    """Return an operator's leading arguments, as many as there are ``defaults``; without defaults, all that it has.

    A graph leaves out arguments that have their default value, and gives some by name.
    """
    given = list(node.args)
    if not defaults:
        return given
    names = argument_names(node.target)
    return [given[i] if i < len(given) else node.kwargs.get(names[i], default) for i, default in enumerate(defaults)]


def argument_named(node: Node, name: str) -> Any:
    """Return an operator's argument by its name, with its default where the graph leaves it out; None without one."""
    names = argument_names(node.target)
    if name not in names:
        return None
    index = names.index(name)
    return node.args[index] if index < len(node.args) else node.kwargs.get(name, default_of(node.target, name))


def pair_of(value: Any) -> tuple[int, int]:
    """Return a kernel, stride, padding or dilation for both axes of a plane; one number serves both."""
    numbers = [value] * 2 if isinstance(value, int) else list(value)
    return int(numbers[0]), int(numbers[-1])
