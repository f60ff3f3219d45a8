"""What XNNPACK's delegate computes, read from a delegate's payload in a ``.pte``."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from pipeline.compat.executorch import payload_flatbuffer, payload_json

QUANTIZED = "XNNQuantizedTensorValue"
"""The type of a tensor that has a scale."""


class Parameters(msgspec.Struct, frozen=True):
    """How a tensor is quantized. ``scale`` is None where every channel has its own."""

    scale: float | None = None
    zero_point: int = 0


class Tensor(msgspec.Struct, frozen=True):
    """A tensor: its shape, and where its constant lies; 0 for what is computed."""

    dims: tuple[int, ...] = ()
    constant_buffer_idx: int = 0


class Value(msgspec.Struct, frozen=True):
    """A tensor of the graph, of bytes with a scale or of floats."""

    tensor: Tensor
    parameters: Parameters | None

    @property
    def is_quantized(self) -> bool:
        """Whether it has a scale, or one for each channel."""
        return self.parameters is not None


class Operands(msgspec.Struct, frozen=True):
    """The tensors of an operator, as indices of the graph's values; 0 as well where it has none."""

    input1_id: int = 0
    filter_id: int = 0
    output_id: int = 0


class Operator(msgspec.Struct, frozen=True):
    """One operator: its type as the schema names it, and its tensors."""

    kind: str
    operands: Operands


class XnnpackGraph(msgspec.Struct, frozen=True):
    """All operators of one partition, and the tensors between them."""

    operators: tuple[Operator, ...]
    values: tuple[Value, ...]


def read_payload(payload: bytes) -> XnnpackGraph:
    """Read one delegate's payload."""
    flatbuffer = payload_flatbuffer(payload)
    with tempfile.TemporaryDirectory() as folder:
        text = payload_json(flatbuffer, Path(folder))
    # A ReLU's upper bound is infinite: flatc prints that as C does.
    graph = msgspec.convert(json.loads(re.sub(r"(: -?)inf\b", r"\1Infinity", text)), _Graph, strict=False)
    return XnnpackGraph(
        operators=tuple(Operator(node.xnode_union_type, node.xnode_union) for node in graph.xnodes),
        values=tuple(_value(flatbuffer, index, value) for index, value in enumerate(graph.xvalues)),
    )


class _Parameters(msgspec.Struct, frozen=True):
    """Of a tensor, or of each of its channels."""

    scale: float | tuple[float, ...] | None = None
    zero_point: int = 0


class _TensorUnion(msgspec.Struct):
    """The fields of either type of tensor: a quantized one holds the other."""

    dims: tuple[int, ...] = ()
    constant_buffer_idx: int = 0
    tensor_value: Tensor | None = None
    quant_params: _Parameters = _Parameters()


class _Value(msgspec.Struct):
    xvalue_union_type: str
    xvalue_union: _TensorUnion


class _Node(msgspec.Struct):
    xnode_union_type: str
    xnode_union: Operands


class _Graph(msgspec.Struct):
    """As flatc prints the schema's ``XNNGraph``."""

    xnodes: list[_Node] = []
    xvalues: list[_Value] = []


def _value(flatbuffer: bytes, index: int, value: _Value) -> Value:
    union = value.xvalue_union
    tensor = union.tensor_value or Tensor(union.dims, union.constant_buffer_idx)
    if value.xvalue_union_type != QUANTIZED:
        return Value(tensor, None)
    is_one = isinstance(union.quant_params.scale, float)
    scale = _scale(flatbuffer, index) if is_one else None
    return Value(tensor, Parameters(scale, union.quant_params.zero_point))


def _scale(flatbuffer: bytes, index: int) -> float:
    """Return ``xvalues[index].xvalue_union.quant_params.scale`` exactly: flatc prints six decimals.

    A table's field n stands at 4 + 2n of its vtable; a union takes two fields, the type before the value.
    """
    from flatbuffers import number_types
    from flatbuffers.table import Table

    def child(table: Any, field: int) -> Any:
        return Table(flatbuffer, table.Indirect(table.Pos + table.Offset(field)))

    root = Table(flatbuffer, int.from_bytes(flatbuffer[:4], "little"))
    value = Table(flatbuffer, root.Indirect(root.Vector(root.Offset(8)) + 4 * index))
    parameters = child(child(value, 6), 8)
    return float(parameters.Get(number_types.Float32Flags, parameters.Pos + parameters.Offset(4)))
