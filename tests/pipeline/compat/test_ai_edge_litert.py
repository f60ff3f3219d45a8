"""What the target relies on in ai-edge-litert without its promise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import nn

from edge_apps.chatter import hushed

pytest.importorskip("ai_edge_litert")
pytest.importorskip("litert_torch")

from pipeline.compat.ai_edge_litert import partition_outputs

Contract = Callable[[str, str], AbstractContextManager[None]]


def test_an_interpreter_lists_the_partitions_of_its_delegate(contract: Contract, tmp_path: Path) -> None:
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter

    with hushed():
        network = nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval()
        litert_torch.convert(network, (torch.zeros(1, 8),)).export(str(tmp_path / "model.tflite"))
    with contract("ai-edge-litert", "Interpreter._get_ops_details"):
        with hushed():
            interpreter = Interpreter(model_path=str(tmp_path / "model.tflite"), num_threads=1)
            interpreter.allocate_tensors()
        result = int(interpreter.get_output_details()[0]["index"])
        assert partition_outputs(interpreter) == [{result}]
