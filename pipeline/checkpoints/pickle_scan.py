"""What a pickle would build, found without building it.

A pickle of a few hundred bytes can put a list into itself twice, forty times over: whoever compares, hashes or prints
that never ends. So its operations are followed with nodes in place of objects, and the nodes are counted.
"""

from __future__ import annotations

import pickletools
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

MOST_OPERATIONS, MOST_OBJECTS = 1_000_000, 200_000
"""Of one pickle, which takes 3 s to read then. The state dict of ResNet-152 has 40,000 operations, which make 7,000
containers, tensors and the like; numbers and texts are not counted among these."""

MOST_NODES = 10_000_000
"""Objects that one refers to, each as often as it is referred to."""

DEEPEST = 200
"""Containers inside one another."""

NEVER_CALLED = ("Tensor", "Storage", "bytearray")
"""Endings of names whose call with a number takes that much memory; torch itself writes no such call."""

_SCALARS = frozenset({
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING",
})  # fmt: skip
_EMPTY = frozenset({"EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"})
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ADDED = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}
"""Operations that put so many values into the object below them."""


class Refused(ValueError):
    """A pickle that builds too much; says so as a clause."""


@dataclass(eq=False, slots=True)
class _Node:
    """An object in the making: what it refers to, and the name of a class or function.

    ``count`` and ``depth`` are of all that it refers to; a count of 0 is not known yet, one of -1 is being found.
    """

    inside: list[_Node] = field(default_factory=list)
    name: str = ""
    count: int = 0
    depth: int = 0


_SCALAR = _Node(count=1)


def scan(stream: BinaryIO) -> None:
    """Follow one pickle, and leave the stream behind it.

    An operation that torch's own reader does not have ends it: torch ends there, too. What was built before counts.

    Raises:
        Refused: too many operations, or objects that refer to too many others. ValueError: the pickle is damaged.
    """
    machine = _Machine()
    try:
        _follow(stream, machine)
    finally:
        _check_sizes(machine.nodes)


def _follow(stream: BinaryIO, machine: _Machine) -> None:
    try:
        for number, (code, argument, _) in enumerate(pickletools.genops(stream)):
            if number >= MOST_OPERATIONS or len(machine.nodes) > MOST_OBJECTS:
                raise Refused(f"its pickle has more than {MOST_OPERATIONS:,} operations or {MOST_OBJECTS:,} objects")
            if not machine.step(code.name, argument):
                raise ValueError(f"its pickle has the operation {code.name}")
    except (IndexError, KeyError, struct.error) as error:
        raise ValueError("its pickle is damaged") from error


class _Machine:
    """The stack and the memo of an unpickler."""

    def __init__(self) -> None:
        self.nodes: list[_Node] = []
        self._stack: list[_Node] = []
        self._marked: list[list[_Node]] = []
        self._memo: dict[int, _Node] = {}

    def step(self, name: str, argument: object) -> bool:
        """Follow one operation; return whether torch has it."""
        stack = self._stack
        if name in _SCALARS:
            stack.append(_SCALAR)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[_number(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[_number(argument)])
        elif name in _EMPTY:
            self._push([])
        elif name == "MARK":
            self._marked.append(stack)
            self._stack = []
        elif name == "TUPLE":
            items = self._since_mark()
            self._push(items)
        elif name in _TUPLES:
            self._push(self._pop(_TUPLES[name]))
        elif name in _ADDED:
            items = self._pop(_ADDED[name])
            stack[-1].inside.extend(items)
        elif name in ("APPENDS", "SETITEMS"):
            items = self._since_mark()
            self._stack[-1].inside.extend(items)
        elif name == "GLOBAL":
            self._push([], str(argument))
        elif name in ("REDUCE", "NEWOBJ"):
            called, arguments = self._pop(2)
            if called.name.endswith(NEVER_CALLED) and arguments.inside:
                raise Refused(f"its pickle calls '{called.name.replace(' ', '.')[:60]}'")
            self._push([called, arguments])
        elif name == "BINPERSID":
            self._push(self._pop(1))
        else:
            return name in ("PROTO", "STOP")
        return True

    def _push(self, inside: list[_Node], name: str = "") -> None:
        node = _Node(inside, name)
        self.nodes.append(node)
        self._stack.append(node)

    def _pop(self, count: int) -> list[_Node]:
        if len(self._stack) < count:
            raise IndexError
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _since_mark(self) -> list[_Node]:
        taken, self._stack = self._stack, self._marked.pop()
        return taken


def _number(argument: object) -> int:
    assert isinstance(argument, int)
    return argument


def _check_sizes(nodes: list[_Node]) -> None:
    """Count what each node refers to, from the innermost outwards; one that is inside itself counts once there."""
    for start in nodes:
        waiting = [] if start.count else [start]
        while waiting:
            node = waiting[-1]
            if node.count == 0:
                node.count = -1
                waiting += [one for one in node.inside if one.count == 0]
            else:
                waiting.pop()
                if node.count == -1:
                    _count(node)


def _count(node: _Node) -> None:
    node.count = 1 + sum(abs(one.count) for one in node.inside)
    node.depth = 1 + max((one.depth for one in node.inside), default=0)
    if node.count > MOST_NODES or node.depth > DEEPEST:
        raise Refused("its pickle builds objects that refer to each other without end")
