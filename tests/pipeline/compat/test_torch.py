"""What graphs rely on in PyTorch without its promise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from pipeline.compat import torch as compat

Contract = Callable[[str, str], AbstractContextManager[None]]
aten: Any = torch.ops.aten


def captured(network: nn.Module, *, free: bool = True) -> ExportedProgram:
    shapes = ({0: Dim("batch", min=1, max=64)},) if free else None
    return export(network.eval(), (torch.ones(2, 3),), dynamic_shapes=shapes, strict=False)


def called(function: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    class Called(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)

    return Called()


def test_schemas_of_operators(contract: Contract) -> None:
    with contract("torch", "schemas of operators (torch._ops.OpOverload._schema)"):
        assert compat.is_operator(aten.relu.default)
        assert not compat.is_operator(torch.relu)
        assert compat.operator_name(aten.relu_.default) == "aten::relu_"
        assert compat.namespace_of(aten.relu_.default) == "aten"
        assert compat.same_overload(aten.add, aten.add_.Tensor) == aten.add.Tensor
        assert compat.same_overload(aten.relu, aten.add_.Tensor) is None
        assert compat.argument_names(aten.var.correction) == ["self", "dim", "correction", "keepdim"]
        assert compat.named_only(aten.zeros.default) == ["dtype", "layout", "device", "pin_memory"]
        assert compat.default_of(aten.softplus.default, "threshold") == 20


def test_which_operators_write_and_which_give_views(contract: Contract) -> None:
    with contract("torch", "what a schema says of memory (is_mutable, alias_info)"):
        assert compat.overwrites(aten.relu_.default)
        assert not compat.overwrites(aten.relu.default)
        assert not compat.overwrites(torch.relu_)
        assert compat.gives_views(aten.select.int)
        assert compat.gives_views(aten.relu_.default)
        assert not compat.gives_views(aten.relu_.default, of_what_it_wrote=False)
        assert not compat.gives_views(aten.relu.default)


def test_children_by_name(contract: Contract) -> None:
    with contract("torch", "where a module keeps its children (Module._modules)"):
        network = nn.Sequential(nn.ReLU())
        assert compat.has_child(network, "0")
        assert not compat.has_child(network, "training")


def test_control_flow_and_function_transforms_in_a_graph(contract: Contract) -> None:
    with contract("torch", "how a graph holds torch.cond and torch.vmap"):
        branching = called(lambda x: torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,)))
        assert any(compat.is_control_flow(node.target) for node in captured(branching, free=False).graph.nodes)
        assert not any(compat.is_control_flow(node.target) for node in captured(nn.ReLU()).graph.nodes)
        mapped = captured(called(lambda x: torch.vmap(torch.sin)(x)), free=False)
        assert any(compat.is_function_transform(node.target) for node in mapped.graph.nodes)


def test_an_operator_outside_all_modules(contract: Contract) -> None:
    """Its path begins with the name that a capture gives to no module, or is that of the root."""
    with contract("torch", "the name of no module (_empty_nn_module_stack)"):
        program = captured(nn.ReLU()).run_decompositions({})
        paths = [
            path
            for node in program.graph.nodes
            for path, _ in node.meta.get("nn_module_stack", {}).values()
            if path and not path.startswith(compat.NO_MODULE)
        ]
        assert not paths


def test_lengths_of_sides(contract: Contract) -> None:
    with contract("torch", "symbols of free sides (SymInt.node.maybe_as_int)"):
        image = next(node for node in captured(nn.ReLU()).graph.nodes if node.op == "placeholder")
        assert [compat.length_of(side) for side in image.meta["val"].shape] == [None, 3]


def test_what_a_capture_notes(contract: Contract) -> None:
    with contract("torch", "fake tensors of a capture (fake_mode, shape_env, enable_python_dispatcher)"):
        image = next(node for node in captured(nn.ReLU()).graph.nodes if node.op == "placeholder")
        constant = compat.noted_constant(image, torch.ones(4, 3))
        assert constant.shape == (4, 3)
        noted = compat.noted_result(image, aten.permute.default, (image, [1, 0]))
        assert [compat.length_of(side) for side in noted.shape] == [3, None]


def test_tensors_without_memory(contract: Contract) -> None:
    with contract("torch", "FakeTensorMode, or tree_leaves"):
        with compat.without_memory():
            large = torch.empty(2**40)
        assert large.numel() == 2**40
        one = torch.ones(1)
        assert compat.tensors_in({"a": [one, (2, one)], "b": None}) == [one, one]


def test_many_tensors_are_moved_in_one_call(contract: Contract) -> None:
    with contract("torch", "torch._foreach_lerp_"):
        tensors, others = [torch.zeros(2), torch.ones(3)], [torch.full((2,), 4.0), torch.full((3,), 5.0)]
        compat.move_towards(tensors, others, 0.25)
        assert [tensor.tolist() for tensor in tensors] == [[1.0, 1.0], [2.0, 2.0, 2.0]]
