"""What graphs need of PyTorch beyond its documented interface: schemas of operators, fake tensors, symbols."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch._dispatch.python import enable_python_dispatcher
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

FUNCTION_TRANSFORMS = "torch._functorch"
"""The module of what ``torch.vmap`` and ``torch.func`` leave in a graph."""

NO_MODULE = "_empty_nn_module_stack"
"""How a capture names the module of an operator that no module wrote."""


def is_operator(target: Any) -> bool:
    """Whether a node calls one overload of an operator, as ``aten.relu.default``."""
    return isinstance(target, OpOverload)


def is_control_flow(target: Any) -> bool:
    """Whether a node calls an operator that takes graphs, as ``torch.cond``."""
    return isinstance(target, HigherOrderOperator)


def is_function_transform(target: Any) -> bool:
    """Whether a node stands for ``torch.vmap`` or ``torch.func``."""
    return str(getattr(target, "__module__", "")).startswith(FUNCTION_TRANSFORMS)


def _schema(target: Any) -> Any:
    return target._schema


def operator_name(target: Any) -> str:
    """Return the name of an operator without its overload, as ``aten::relu_``."""
    return str(_schema(target).name)


def namespace_of(target: Any) -> str:
    """Return the library that an operator is of, as ``aten``."""
    return operator_name(target).partition("::")[0]


def same_overload(packet: Any, target: Any) -> Any:
    """Return the overload of a packet (``aten.relu``) that has the name of another operator's; None without one."""
    return getattr(packet, target._overloadname, None)


def argument_names(target: Any) -> list[str]:
    """Return the names of an operator's arguments, those that are given by name only at the end."""
    return [argument.name for argument in _schema(target).arguments]


def named_only(target: Any) -> list[str]:
    """Return the names of an operator's arguments that cannot be given by position."""
    return [argument.name for argument in _schema(target).arguments if argument.kwarg_only]


def default_of(target: Any, name: str) -> Any:
    """Return the default value of an operator's argument."""
    return next(argument.default_value for argument in _schema(target).arguments if argument.name == name)


def overwrites(target: Any) -> bool:
    """Whether an operator changes one of the tensors that it is given."""
    return is_operator(target) and bool(_schema(target).is_mutable)


def gives_views(target: Any, *, of_what_it_wrote: bool = True) -> bool:
    """Whether a result of an operator shares memory with an argument; that of ``relu_`` does with what it wrote."""
    if not is_operator(target):
        return False
    aliases = [result.alias_info for result in _schema(target).returns if result.alias_info is not None]
    return any(of_what_it_wrote or not alias.is_write for alias in aliases)


def has_child(module: nn.Module, name: str) -> bool:
    """Whether a module has a submodule of this name."""
    return name in module._modules


def length_of(side: int | torch.SymInt) -> int | None:
    """Return a side of a captured tensor; None where it is free. ``int()`` of a free one would fix it for good."""
    if isinstance(side, int):
        return side
    known = side.node.maybe_as_int()
    return None if known is None else int(known)


def noted_constant(image: Node, tensor: torch.Tensor) -> torch.Tensor:
    """Return what the capture that noted ``image`` would note of a constant: a tensor without memory."""
    noted: torch.Tensor = image.meta["val"].fake_mode.from_tensor(tensor, static_shapes=True)
    return noted


def noted_result(image: Node, operator: Any, arguments: Sequence[Any]) -> Any:
    """Return what the capture that noted ``image`` would note of an operator's result.

    Computed as capture does. Otherwise C++ would ask for the size of a free batch, and the program that was captured,
    which has the same symbol, would hold that one size for good.
    """
    symbols = image.meta["val"].fake_mode.shape_env
    with enable_python_dispatcher(), nullcontext() if symbols is None else symbols.suppress_guards():
        return operator(*map_arg(tuple(arguments), lambda node: node.meta["val"]))


def without_memory() -> Any:
    """Return a context in which tensors have shapes and no values; parameters from outside are let in."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return all tensors in nested tuples, lists and dictionaries."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def move_towards(tensors: list[torch.Tensor], others: list[torch.Tensor], share: float) -> None:
    """Move each tensor by this share of the way to its other one, all in one call: many small ones cost little."""
    torch._foreach_lerp_(tensors, others, share)
