"""ExecuTorch ``.pte``: raw bytes uint8 NHWC in, logits float32 out, computed by the XNNPACK delegate.

The bytes are reordered and cast to float outside the delegate; normalisation and the whole network are inside it.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_apps.files import write_whole
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import EMBEDDED_NAME, FileManifest, Precision, to_json
from pipeline.errors import LoweringFailed
from pipeline.targets.base import Census, Delegation, Source, missing_packages
from pipeline.targets.executorch_kernels import check_kernels
from pipeline.targets.memory_order import contiguous_pass

LAYERS = {"XNNConv2d", "XNNDepthwiseConv2d", "XNNFullyConnected"}
PRODUCT, PRODUCT_OUTSIDE = "XNNBatchMatrixMultiply", "aten::bmm"
"""Matrix products of two tensors, ``[B, M, K] · [B, K, N]``: no layers, because they have no weights."""

VOLUMES = {"aten.conv3d.default", "aten.conv3d.padding", "aten.conv_transpose3d.input"}
HEADER_BYTES = 30
ENTRANCE = Counter({"aten::permute_copy": 1, "dim_order_ops::_to_dim_order_copy": 1})
"""The picture's bytes as float, channels first."""

LAYER_WEIGHTS = {"aten::convolution": 1, "aten::linear": 1, "aten::addmm": 2, "aten::mm": 1}
"""Where a layer that stayed outside has its weight among its arguments."""


class ExecuTorchTarget:
    """See the module."""

    name = "executorch"
    suffix = ".pte"
    aliases = ("pte", "et", "xnnpack", "android")
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    delegate = "XNNPACK"
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
        from pipeline.graphs.front_ends import BytesInput, capture_bytes, graph_of, in_half

        front: torch.nn.Module = BytesInput(source.network, manifest.preprocess).eval()
        if manifest.precision == "fp16":
            front = in_half(front)
        program = capture_bytes(front, manifest.preprocess)
        _check_dimensions(program)
        float_layers: tuple[str, ...] = ()
        if manifest.precision == "int8":
            graph, float_layers = quantize(graph_of(program), source.required_ranges, fold_weights=True)
            program = capture_bytes(graph, manifest.preprocess)
        edge = to_edge_transform_and_lower(
            program,
            transform_passes=[contiguous_pass()],
            partitioner=[XnnpackPartitioner(configs=_configs())],
            constant_methods={EMBEDDED_NAME: to_json(manifest)},
        )
        write_whole(path, edge.to_executorch().buffer)
        return float_layers

    def census(self, content: Content) -> Census:
        """Count the kernels outside the delegate and, by reading its payloads, the nodes inside."""
        from executorch.exir._serialize._program import deserialize_pte_binary

        program = deserialize_pte_binary(content.data).program
        plan = next(plan for plan in program.execution_plan if plan.name == "forward")
        check_kernels(plan.operators)
        calls = [
            (plan.operators[call.instr_args.op_index].name, call.instr_args.args)
            for chain in plan.chains
            for call in chain.instructions
            if type(call.instr_args).__name__ == "KernelCall"
        ]
        outside = Counter(name for name, _ in calls)
        graphs = [_payload(program.backend_delegate_data[d.processed.index].data) for d in plan.delegates]
        nodes = [(node, graph) for graph in graphs for node in graph["xnodes"]]
        layers = [
            (node["xnode_union"], graph["xvalues"]) for node, graph in nodes if node["xnode_union_type"] in LAYERS
        ]
        integer = sum(_is_quantized(values[layer["input1_id"]]) for layer, values in layers)
        inside = sum(_layer_mult_adds(layer, values) for layer, values in layers)
        products = [(n["xnode_union"], graph["xvalues"]) for n, graph in nodes if n["xnode_union_type"] == PRODUCT]
        inside += sum(
            _product_mult_adds(*(_shape(v[p[name]]) for name in ("input1_id", "output_id"))) for p, v in products
        )
        apart = sum(
            _product_mult_adds(*(plan.values[arguments[i]].val.sizes for i in (0, -1)))
            for name, arguments in calls
            if name == PRODUCT_OUTSIDE
        )
        left = [_call_mult_adds(name, arguments, plan.values) for name, arguments in calls if name in LAYER_WEIGHTS]
        return Census(
            operators=Counter(node["xnode_union_type"] for node, _ in nodes) + outside,
            delegation=Delegation(len(graphs), outside, ENTRANCE, inside + sum(left) + apart, inside),
            integer_layers=integer,
            float_layers=len(layers) - integer + len(left),
            activations=frozenset(q for graph in graphs for q in _activations(graph)),
        )


def _layer_mult_adds(layer: dict[str, Any], values: list[dict[str, Any]]) -> int:
    """Of a layer inside the delegate: outputs [N, H, W, C] or [N, C] times the weights that each one sums over.

    Filters are [outputs, height, width, inputs / groups] or [outputs, inputs]; depthwise [1, height, width, outputs].
    """
    outputs, weights = (_shape(values[layer[name]]) for name in ("output_id", "filter_id"))
    return math.prod(outputs) * math.prod(weights) // outputs[-1]


def _check_dimensions(program: Any) -> None:
    """``LoweringFailed`` for a convolution of volumes: the file would be written, and fail in its first run."""
    from calibration.quantizer import module_path

    for node in program.graph.nodes:
        if str(node.target) in VOLUMES:
            raise LoweringFailed(
                f"executorch: layer '{module_path(node)}' is a 3-D convolution, for which ExecuTorch has no kernel. "
                "Write it as a 2-D convolution, or leave this target out of `target`."
            )


def _product_mult_adds(one: Sequence[int], output: Sequence[int]) -> int:
    """Of ``[…, M, K] · […, K, N]``: every value of the output is a sum of K products."""
    return math.prod(output) * one[-1]


def _shape(value: dict[str, Any]) -> list[int]:
    tensor = value["xvalue_union"]
    shape: list[int] = tensor.get("tensor_value", tensor)["dims"]
    return shape


def _call_mult_adds(name: str, arguments: list[int], values: list[Any]) -> int:
    """Of a layer that the delegate did not take: the result stands last among a kernel's arguments."""
    weight, output = (values[arguments[index]].val.sizes for index in (LAYER_WEIGHTS[name], -1))
    channels = weight[0] if name in ("aten::convolution", "aten::linear") else weight[1]
    return int(math.prod(output) * math.prod(weight) // channels)


def _configs() -> list[Any]:
    """The partitioner's own, those widened that take less than XNNPACK does.

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
        text = (Path(folder) / "graph.json").read_text()
    # A ReLU's upper bound is infinite: flatc prints that as C does.
    graph: dict[str, Any] = json.loads(re.sub(r"(: -?)inf\b", r"\1Infinity", text))
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
