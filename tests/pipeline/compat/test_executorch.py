"""What the target relies on in ExecuTorch without its promise."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edge_apps.chatter import hushed

pytest.importorskip("executorch")

from pipeline.compat import executorch as compat

Contract = Callable[[str, str], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def written() -> bytes:
    """A network of one layer and one activation, whole in the delegate."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU()).eval()
    program = torch.export.export(network, (torch.zeros(1, 3, 8, 8),))
    with hushed():
        partitioner = XnnpackPartitioner(configs=compat.partitioner_configs())
        data: Any = to_edge_transform_and_lower(program, partitioner=[partitioner]).to_executorch().buffer
    return bytes(data)


def test_a_program_and_its_payload_can_be_read(contract: Contract, written: bytes, tmp_path: Path) -> None:
    with contract("executorch", "how a .pte and an XNNPACK payload are read back"):
        program = compat.read_program(written)
        plan = next(plan for plan in program.execution_plan if plan.name == "forward")
        payload = program.backend_delegate_data[plan.delegates[0].processed.index].data
        flatbuffer = compat.payload_flatbuffer(payload)
        graph = json.loads(compat.payload_json(flatbuffer, tmp_path))
        operands = {node["xnode_union_type"]: node["xnode_union"] for node in graph["xnodes"]}
        assert "XNNLeakyReLU" in operands
        assert {"input1_id", "filter_id", "output_id"} <= operands["XNNConv2d"].keys()
        assert [1, 6, 6, 4] in [value["xvalue_union"].get("dims") for value in graph["xvalues"]]


def test_the_runtime_lists_its_kernels(contract: Contract) -> None:
    with contract("executorch", "the list of registered kernels (portable_lib._get_operator_names)"):
        assert "aten::permute_copy.out" in compat.registered_kernels()


def test_the_partitioner_is_widened(contract: Contract) -> None:
    with contract("executorch", "the configurations of the XNNPACK partitioner"):
        from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
        from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType

        configs = compat.partitioner_configs()
        assert [config.__name__ for config in configs] == [config.__name__ for config in ALL_PARTITIONER_CONFIGS]
        widened = [one for one, other in zip(configs, ALL_PARTITIONER_CONFIGS, strict=True) if one is not other]
        assert sorted(config.__name__ for config in widened) == ["CatConfig", "LeakyReLUConfig", "SigmoidConfig"]
        sigmoid = next(config for config in widened if config.__name__ == "SigmoidConfig")
        types = sigmoid.supported_precision_types(None)
        assert types == [ConfigPrecisionType.FP32, ConfigPrecisionType.STATIC_QUANT]
        for config in widened:
            assert {"supported_precision_types", "check_constraints"} <= set(dir(config))
