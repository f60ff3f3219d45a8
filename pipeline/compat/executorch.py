"""What the target needs of ExecuTorch beyond its documented interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

HEADER_BYTES = 30
"""Of a delegate's payload."""


def read_program(data: bytes) -> Any:
    """Return the object form of a ``.pte``."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    return deserialize_pte_binary(data).program


def payload_flatbuffer(payload: bytes) -> bytes:
    """Return the flatbuffer in an XNNPACK delegate's payload, which stands behind a header."""
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader

    header = XNNHeader.from_bytes(payload[:HEADER_BYTES])
    return payload[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size]


def payload_json(flatbuffer: bytes, folder: Path) -> str:
    """Return an XNNPACK delegate's graph as JSON, by the flatc and the schema of the package; works in ``folder``."""
    import executorch.backends.xnnpack.serialization as serialization
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    schema = Path(next(iter(serialization.__path__))) / "schema.fbs"
    binary = folder / "graph.bin"
    binary.write_bytes(flatbuffer)
    _flatc_decompile(str(folder), str(schema), str(binary), ["--raw-binary"])
    return (folder / "graph.json").read_text()


def registered_kernels() -> frozenset[str]:
    """Return the names of the wheel's kernels; none where this version of it does not list them."""
    from executorch.extension.pybindings import portable_lib

    return frozenset(getattr(portable_lib, "_get_operator_names", list)())


def partitioner_configs() -> list[Any]:
    """Return the XNNPACK partitioner's own configurations, those widened that take less than XNNPACK does.

    It has sigmoid and leaky ReLU in int8, and it joins a tensor with itself.
    """
    from executorch.backends.xnnpack.partition.config import (
        ALL_PARTITIONER_CONFIGS,
        CatConfig,
        LeakyReLUConfig,
        SigmoidConfig,
    )
    from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType

    def in_int8_too(config: Any) -> Any:
        both = [ConfigPrecisionType.FP32, ConfigPrecisionType.STATIC_QUANT]
        return type(config.__name__, (config,), {"supported_precision_types": lambda _self: both})

    def with_itself(config: Any) -> Any:
        def check(self: Any, node: Any, program: Any) -> bool:
            return len(node.args[0]) >= 2 and bool(self.check_common_constraints(node, program))

        return type(config.__name__, (config,), {"check_constraints": check})

    widened = {SigmoidConfig: in_int8_too, LeakyReLUConfig: in_int8_too, CatConfig: with_itself}
    return [widened[config](config) if config in widened else config for config in ALL_PARTITIONER_CONFIGS]
