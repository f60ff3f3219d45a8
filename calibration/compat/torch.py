"""What calibration needs of PyTorch beyond its documented interface."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch.fx import Interpreter, Node

ROOT = "L['self']"
"""How a capture names the module that was captured, in front of the paths of those in it."""


class Module(NamedTuple):
    """A module that wrote an operator: its path in the captured one, and its class by its full name."""

    path: str
    kind: str


def modules_around(node: Node) -> list[Module]:
    """Return the modules in whose ``forward`` an operator was written, from the outermost inwards."""
    recorded = node.meta.get("nn_module_stack", {}).values()
    return [Module(path.removeprefix(ROOT).removeprefix("."), str(kind)) for path, kind in recorded]


def begin(run: Interpreter, *inputs: Any) -> None:
    """Give an interpreter its inputs, so that nodes can be run one by one."""
    run.args_iter = iter(run.module.graph.process_inputs(*inputs))  # type: ignore[operator, union-attr]


def drop_spent(run: Interpreter, node: Node) -> None:
    """Forget the values that no node after this one reads."""
    for spent in run.user_to_last_uses.get(node, []):
        del run.env[spent]
