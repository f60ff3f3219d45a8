"""ExecuTorch ``.pte``: raw bytes uint8 NHWC in, logits float32 out, computed by the XNNPACK delegate.

The bytes are reordered and cast to float outside the delegate; normalisation and the whole network are inside it.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from edge_apps.files import write_whole
from edge_apps.runtime.manifest import EMBEDDED_NAME, FileManifest, Precision, to_json
from pipeline.targets.base import Census, Source, missing_packages

LAYERS = {"XNNConv2d", "XNNDepthwiseConv2d", "XNNFullyConnected"}
MAGIC, HEADER_BYTES = b"XH00", 30


class ExecuTorchTarget:
    """See the module."""

    name = "executorch"
    suffix = ".pte"
    aliases = ("pte", "et", "xnnpack", "android")
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    summary = "phones and boards by ExecuTorch with XNNPACK"

    def missing(self) -> str | None:
        """What to install first, or None."""
        return missing_packages("torch", "executorch", "torchao")

    def lower(self, source: Source, manifest: FileManifest, path: Path) -> tuple[str, ...]:
        """Capture with bytes in front, quantize with the given ranges, give it all to XNNPACK."""
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        from calibration.quantize import quantize
        from pipeline.capture import BytesInput, capture_bytes, graph_of, in_half

        front: torch.nn.Module = BytesInput(source.network, manifest.preprocess).eval()
        if manifest.precision == "fp16":
            front = in_half(front)
        program = capture_bytes(front, manifest.preprocess)
        float_layers: tuple[str, ...] = ()
        if manifest.precision == "int8":
            graph, float_layers = quantize(graph_of(program), source.required_ranges, fold_weights=True)
            program = capture_bytes(graph, manifest.preprocess)
        edge = to_edge_transform_and_lower(
            program, partitioner=[XnnpackPartitioner()], constant_methods={EMBEDDED_NAME: to_json(manifest)}
        )
        write_whole(path, edge.to_executorch().buffer)
        return float_layers

    def census(self, path: Path) -> Census:
        """Count the kernels outside the delegate and, by reading its payloads, the nodes inside."""
        from executorch.exir._serialize._program import deserialize_pte_binary

        program = deserialize_pte_binary(path.read_bytes()).program
        plan = next(plan for plan in program.execution_plan if plan.name == "forward")
        outside = Counter(
            plan.operators[call.instr_args.op_index].name
            for chain in plan.chains
            for call in chain.instructions
            if type(call.instr_args).__name__ == "KernelCall"
        )
        graphs = [_payload(program.backend_delegate_data[d.processed.index].data) for d in plan.delegates]
        nodes = [(node, graph) for graph in graphs for node in graph["xnodes"]]
        operators = Counter(node["xnode_union_type"] for node, _ in nodes)
        layers = [
            _is_quantized(graph["xvalues"][node["xnode_union"]["input1_id"]])
            for node, graph in nodes
            if node["xnode_union_type"] in LAYERS
        ]
        return Census(
            operators=operators + outside,
            partitions=len(graphs),
            outside=outside,
            integer_layers=sum(layers),
            float_layers=len(layers) - sum(layers) + outside["aten::convolution"] + outside["aten::linear"],
            activations=frozenset(q for graph in graphs for q in _activations(graph)),
        )


def _payload(data: bytes) -> dict[str, Any]:
    """An XNNPACK delegate's graph as JSON: a header, then a flatbuffer that executorch's own flatc can read."""
    import executorch.backends.xnnpack.serialization as serialization
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = XNNHeader.from_bytes(data[:HEADER_BYTES])
    flatbuffer = data[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size]
    schema = Path(next(iter(serialization.__path__))) / "schema.fbs"
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "graph.bin"
        binary.write_bytes(flatbuffer)
        _flatc_decompile(folder, str(schema), str(binary), ["--raw-binary"])
        graph: dict[str, Any] = json.loads((Path(folder) / "graph.json").read_text())
    for index, value in enumerate(graph["xvalues"]):
        if _is_quantized(value) and "scale" in value["xvalue_union"]["quant_params"]:
            value["xvalue_union"]["quant_params"]["scale"] = _scale(flatbuffer, index)
    return graph


def _scale(flatbuffer: bytes, index: int) -> float:
    """``xvalues[index].xvalue_union.quant_params.scale`` exactly: flatc prints six decimals.

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


def _is_quantized(value: dict[str, Any]) -> bool:
    return bool(value["xvalue_union_type"] == "XNNQuantizedTensorValue")


def _activations(graph: dict[str, Any]) -> list[Any]:
    """Scale and zero point of quantized tensors that are no constants."""
    from calibration.ranges import QParams

    found = []
    for value in filter(_is_quantized, graph["xvalues"]):
        tensor = value["xvalue_union"]
        parameters = tensor["quant_params"]
        if not tensor["tensor_value"].get("constant_buffer_idx") and "scale" in parameters:
            found.append(QParams(parameters["scale"], parameters.get("zero_point", 0)))
    return found


TARGET = ExecuTorchTarget()
