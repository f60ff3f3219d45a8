"""What calibration relies on in PyTorch without its promise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.fx import Interpreter

from calibration.compat.torch import Module, begin, drop_spent, modules_around

Contract = Callable[[str, str], AbstractContextManager[None]]


class Half(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0.5


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([Half()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parts[0](x) + 1


def graph() -> Any:
    return torch.export.export(Outer().eval(), (torch.ones(2),)).module(check_guards=False)


def test_a_capture_records_the_modules_around_an_operator(contract: Contract) -> None:
    with contract("torch", "how a capture records modules (node.meta['nn_module_stack'])"):
        product = next(node for node in graph().graph.nodes if node.target == torch.ops.aten.mul.Tensor)
        name = f"{Outer.__module__}."
        assert modules_around(product) == [Module("", f"{name}Outer"), Module("parts.0", f"{name}Half")]


def test_an_interpreter_runs_node_by_node_and_forgets_what_is_read(contract: Contract) -> None:
    with contract("torch", "torch.fx.Interpreter (args_iter, process_inputs, user_to_last_uses)"):
        run = Interpreter(graph())
        begin(run, torch.ones(2))
        for node in run.graph.nodes:
            run.env[node] = run.run_node(node)
            if node.op == "output":
                assert torch.equal(run.env[node][0], torch.full((2,), 1.5))
            drop_spent(run, node)
        assert [node.op for node in run.env] == ["output"]
