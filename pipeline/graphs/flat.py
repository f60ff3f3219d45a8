"""A captured network as one flat graph that can be rewritten, and captured again with every path kept."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter, getitem
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import Graph, Interpreter, Node

from calibration.compat.torch import modules_around
from pipeline.compat.torch import NO_MODULE, has_child, noted_constant, noted_result, overwrites
from pipeline.graphs.whole_graphs import check_graph


class Place(nn.Module):
    """Where in the network an operator was written: its path, and the tensors of the module that wrote it."""

    def forward(self, operator: Any, *arguments: Any, **named: Any) -> Any:
        """Run one operator here; a capture notes the path of every module that is being called."""
        return operator(*arguments, **named)


class Derivation(NamedTuple):
    """How a tensor follows from others: ``compute`` of those at ``sources``, and of None where one is missing."""

    path: str
    compute: Callable[..., torch.Tensor]
    sources: tuple[str | None, ...]


class FlatNetwork(nn.Module):
    """An exported program as a module: normalised float32 ``[N, 3, H, W]`` to logits ``[N, K]``.

    One graph of ATen operators, so that rewriting sees across modules; around it a tree of places, so that parameters
    keep their names, and operators their module paths when a front end captures it again. ``batch`` is None where any
    number of pictures is taken at once; otherwise they go through one by one. What rewriting computes from parameters
    (a batch norm folded into a weight) is remembered as ``derivations``, in order.
    """

    def __init__(self, program: ExportedProgram, batch: int | None = None) -> None:
        super().__init__()
        self.batch = batch
        self.derivations: list[Derivation] = []
        source: Any = program.module(check_guards=False)
        self._flat = Graph()  # a copy, which belongs to no other module
        self._flat.output(self._flat.graph_copy(source.graph, {}))
        for node in self._flat.nodes:
            node.meta = {"path": path_of(node), "val": node.meta.get("val")}
        check_graph(self._flat)
        for node in self._flat.nodes:
            if node.op == "get_attr":
                self.keep(str(node.target), attrgetter(str(node.target))(source))
            elif node.target == torch.ops.aten.view.default:
                node.target = torch.ops.aten.reshape.default  # pictures come channels last, where a view may fail
        self.clean()

    @property
    def nodes(self) -> list[Node]:
        """The operators and tensors in the order of execution."""
        return list(self._flat.nodes)

    @property
    def graph(self) -> Graph:
        """The operators as a graph that an interpreter runs."""
        return self._flat

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of normalised pictures."""
        if self.batch is None or x.shape[0] == self.batch:
            return self._run(x)
        return torch.cat([self._run(x[i : i + 1]) for i in range(x.shape[0])])

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = _Walk(self, self._flat).run(x)[0]
        return logits

    def constant(self, value: Any) -> torch.Tensor | None:
        """The tensor that a node stands for, if it is a parameter or a constant."""
        if isinstance(value, Node) and value.op == "get_attr":
            found: torch.Tensor = attrgetter(str(value.target))(self)
            return found
        return None

    def keep(self, path: str, tensor: torch.Tensor) -> None:
        """Hold a tensor under a path, in place of what was there.

        In the order of its axes: XNNPACK's delegate takes no weight that is stored channels last, and none with
        another stride for an axis of one value, which ``contiguous()`` leaves.
        """
        place, name = self._parent(path)
        tensor = tensor.detach()
        if tensor.stride() != torch.empty(tensor.shape, device="meta").stride():
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        if tensor.is_floating_point():
            setattr(place, name, nn.Parameter(tensor, requires_grad=False))
        else:
            place.register_buffer(name, tensor)

    def change(self, node: Node, tensor: torch.Tensor) -> None:
        """Give a constant another value, for all who read it; its shape may be another."""
        self.keep(str(node.target), tensor)
        node.meta["val"] = noted_constant(self._image(), tensor)

    def add_constant(self, name: str, tensor: torch.Tensor, before: Node) -> Node:
        """A node for a new tensor, held where the operator ``before`` was written, under this name or one like it."""
        path = f"{before.meta['path']}.{name}".removeprefix(".")
        free = self._free(path)
        self.keep(free, tensor)
        with self._flat.inserting_before(before):
            node = self._flat.create_node("get_attr", free)
        node.meta = {"path": before.meta["path"], "val": noted_constant(self._image(), tensor)}
        return node

    def _image(self) -> Node:
        """Return the node of the network's input, which says how the capture notes tensors."""
        image: Node = next(node for node in self._flat.nodes if node.op == "placeholder")
        return image

    def note(self, path: str, compute: Callable[..., torch.Tensor], sources: Sequence[Any]) -> None:
        """Remember that a tensor is what ``compute`` makes of those that these nodes stand for; None stays None."""
        paths = tuple(str(source.target) if isinstance(source, Node) else None for source in sources)
        self.derivations.append(Derivation(path, compute, paths))

    def is_fixed(self, node: Node) -> bool:
        """Whether a constant is the same whatever the parameters are: the forward makes it of numbers alone."""
        fixed: set[str | None] = set()
        for path, _, sources in self.derivations:
            if fixed.issuperset(sources):
                fixed.add(path)
        return str(node.target) in fixed

    def derived(self, original: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """This network's tensors by path, from those of the network that it was made of; differentiable.

        Without those that belong to no parameter, such as the weights of an averaging.
        """
        values = dict(original)
        device = next((tensor.device for tensor in original.values()), None)
        for path, compute, sources in self.derivations:
            value = compute(*[None if source is None else values[source] for source in sources])
            values[path] = value if sources else value.to(device)  # made by a forward, on the device that it names
        mine = [path for path, _ in (*self.named_parameters(), *self.named_buffers())]
        return {path: values[path] for path in mine if path in values}

    def replace(self, node: Node, unit: nn.Module, source: Node | Sequence[Node], name: str) -> str:
        """Put a module that computes the same from ``source``, one or several, in a node's place, below its path.

        Returns the module's path.
        """
        new = self.add_unit(unit, source, name, node)
        self.redirect(node, new)
        return str(new.target)

    def add_unit(self, unit: nn.Module, source: Node | Sequence[Node], name: str, before: Node) -> Node:
        """Add a call of a module on ``source`` in front of an operator, below the path of that operator."""
        path = self._free(f"{before.meta['path']}.{name}".removeprefix("."))
        place, last = self._parent(path)
        place.add_module(last, unit.eval())
        with self._flat.inserting_before(before):
            new = self._flat.create_node("call_module", path, (source,) if isinstance(source, Node) else tuple(source))
        new.meta = dict(before.meta)
        return new

    def add_call(
        self,
        operator: Any,
        arguments: tuple[Any, ...],
        before: Node,
        *,
        value: torch.Tensor | None = None,
        like: Node | None = None,
    ) -> Node:
        """Add an operator in front of another, written where ``like``, or else ``before``, was.

        ``value`` is what capture would have noted of its result (a tensor without memory); where it is None it is
        computed from those of the arguments.
        """
        if value is None:
            value = noted_result(self._image(), operator, arguments)
        with self._flat.inserting_before(before):
            new = self._flat.create_node("call_function", operator, arguments)
        new.meta = {"path": (like or before).meta["path"], "val": value}
        return new

    def redirect(self, node: Node, new: Node) -> None:
        """Let the readers of a node read another, and drop it."""
        node.replace_all_uses_with(new)
        self._flat.erase_node(node)

    def replace_first_result(self, node: Node, operator: Any, arguments: tuple[Any, ...]) -> None:
        """Let the readers of a node's first result read that of another operator, which gives nothing else."""
        new = self.add_call(operator, arguments, node)
        for reader in list(node.users):
            self.redirect(reader, new)

    def end_at(self, node: Node, most: int) -> None:
        """Return the result of ``node`` instead of the logits, flattened to ``[N, K]``; of at most ``most`` values.

        Of a larger tensor ``[N, C, …]`` only the first entries of its second axis are kept.
        """
        output = next(found for found in self._flat.nodes if found.op == "output")
        shape = [int(side) for side in node.meta["val"].shape[1:]]
        per_entry = math.prod(shape[1:])
        with self._flat.inserting_before(output):
            if math.prod(shape) > most and shape:
                kept = max(1, most // per_entry)
                node = self._flat.call_function(torch.ops.aten.slice.Tensor, (node, 1, 0, kept))
                node.meta = {"path": "", "val": None}
            if len(shape) != 1:
                node = self._flat.call_function(torch.ops.aten.flatten.using_ints, (node, 1))
                node.meta = {"path": "", "val": None}
        output.args = ((node,),)
        self.clean()

    def clean(self) -> None:
        """Drop nodes that nobody reads, and tensors without a node; make what is left consistent."""
        for node in reversed(self.nodes):
            if not node.users and node.op in ("get_attr", "call_function", "call_module") and not writes(node):
                self._flat.erase_node(node)
        used = {str(node.target) for node in self._flat.nodes if node.op == "get_attr"}
        for path, place in self.named_modules():
            if isinstance(place, Place) or place is self:
                for name in _tensors_of(place):
                    if f"{path}.{name}".removeprefix(".") not in used:
                        delattr(place, name)
        self._flat.lint()

    def _parent(self, path: str) -> tuple[nn.Module, str]:
        """The place that holds this path's last name, made where it is missing."""
        *names, last = path.split(".")
        return self.place(".".join(names)), last

    def place(self, path: str) -> nn.Module:
        """The place of a module path, made where it is missing."""
        here: nn.Module = self
        for name in filter(None, path.split(".")):
            if not has_child(here, name):
                here.add_module(name, Place())
            here = here.get_submodule(name)
        return here

    def _free(self, path: str) -> str:
        place, name = self._parent(path)
        tried, count = name, 1
        while hasattr(place, tried):
            tried, count = f"{name}_{count}", count + 1
        return path[: len(path) - len(name)] + tried


class _Walk(Interpreter):
    """Runs the graph, every operator in its place."""

    def __init__(self, network: FlatNetwork, graph: Graph) -> None:
        super().__init__(network, graph=graph)
        self._network = network

    def run_node(self, n: Node) -> Any:
        if n.op != "call_function" or not n.meta["path"]:
            return super().run_node(n)
        arguments, named = self.fetch_args_kwargs_from_env(n)
        return self._network.place(n.meta["path"])(n.target, *arguments, **named)


def path_of(node: Node) -> str:
    """Return the path of the innermost module around an operator of an exported program; the root is empty."""
    modules = modules_around(node)
    path = modules[-1].path if modules else ""
    if path.startswith(NO_MODULE):
        return ""
    return re.sub(r"[^\w.@-]+", "_", path).strip(".")


def _tensors_of(place: nn.Module) -> list[str]:
    """Return the names of a place's own parameters and buffers."""
    parameters = place.named_parameters(recurse=False, remove_duplicate=False)
    buffers = place.named_buffers(recurse=False, remove_duplicate=False)
    return [name for name, _ in (*parameters, *buffers)]


def reads_first_result_only(node: Node) -> bool:
    """Whether of an operator with several results the first is read, and no other."""
    return all(reader.target is getitem and reader.args[1] == 0 for reader in node.users)


def writes(node: Node) -> bool:
    """Whether an operator changes a tensor that others may read."""
    return overwrites(node.target)
