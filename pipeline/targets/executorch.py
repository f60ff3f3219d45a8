"""ExecuTorch ``.pte``: raw bytes uint8 NHWC in, logits float32 out, computed by the XNNPACK delegate.

The bytes are reordered and cast to float outside the delegate; normalisation and the whole network are inside it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_apps.files import write_whole
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import EMBEDDED_NAME, FileManifest, to_json
from edge_apps.runtime.precisions import Precision
from pipeline.compat.executorch import partitioner_configs, read_program
from pipeline.errors import LoweringFailed
from pipeline.targets.base import Census, Delegation, Source, missing_packages
from pipeline.targets.executorch_kernels import check_kernels
from pipeline.targets.memory_order import contiguous_pass
from pipeline.targets.xnnpack_graph import Operands, Value, XnnpackGraph, read_payload

LAYERS = {"XNNConv2d", "XNNDepthwiseConv2d", "XNNFullyConnected"}
PRODUCT, PRODUCT_OUTSIDE = "XNNBatchMatrixMultiply", "aten::bmm"
"""Matrix products of two tensors, ``[B, M, K] · [B, K, N]``: no layers, because they have no weights."""

VOLUMES = {"aten.conv3d.default", "aten.conv3d.padding", "aten.conv_transpose3d.input"}
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
            partitioner=[XnnpackPartitioner(configs=partitioner_configs())],
            constant_methods={EMBEDDED_NAME: to_json(manifest)},
        )
        write_whole(path, edge.to_executorch().buffer)
        return float_layers

    def census(self, content: Content) -> Census:
        """Count the kernels outside the delegate and, by reading its payloads, the nodes inside."""
        program = read_program(content.data)
        plan = next(plan for plan in program.execution_plan if plan.name == "forward")
        check_kernels(plan.operators)
        calls = [
            (plan.operators[call.instr_args.op_index].name, call.instr_args.args)
            for chain in plan.chains
            for call in chain.instructions
            if type(call.instr_args).__name__ == "KernelCall"
        ]
        outside = Counter(name for name, _ in calls)
        graphs = [read_payload(program.backend_delegate_data[d.processed.index].data) for d in plan.delegates]
        nodes = [(operator, graph.values) for graph in graphs for operator in graph.operators]
        layers = [(operator.operands, values) for operator, values in nodes if operator.kind in LAYERS]
        integer = sum(values[layer.input1_id].is_quantized for layer, values in layers)
        inside = sum(_layer_mult_adds(layer, values) for layer, values in layers)
        products = [(operator.operands, values) for operator, values in nodes if operator.kind == PRODUCT]
        inside += sum(
            _product_mult_adds(values[product.input1_id].tensor.dims, values[product.output_id].tensor.dims)
            for product, values in products
        )
        apart = sum(
            _product_mult_adds(*(plan.values[arguments[i]].val.sizes for i in (0, -1)))
            for name, arguments in calls
            if name == PRODUCT_OUTSIDE
        )
        left = [_call_mult_adds(name, arguments, plan.values) for name, arguments in calls if name in LAYER_WEIGHTS]
        return Census(
            operators=Counter(operator.kind for operator, _ in nodes) + outside,
            delegation=Delegation(len(graphs), outside, ENTRANCE, inside + sum(left) + apart, inside),
            integer_layers=integer,
            float_layers=len(layers) - integer + len(left),
            activations=frozenset(q for graph in graphs for q in _activations(graph)),
        )


def _layer_mult_adds(layer: Operands, values: Sequence[Value]) -> int:
    """Of a layer inside the delegate: outputs [N, H, W, C] or [N, C] times the weights that each one sums over.

    Filters are [outputs, height, width, inputs / groups] or [outputs, inputs]; depthwise [1, height, width, outputs].
    """
    outputs, weights = (values[index].tensor.dims for index in (layer.output_id, layer.filter_id))
    return math.prod(outputs) * math.prod(weights) // outputs[-1]


def _check_dimensions(program: Any) -> None:
    """``LoweringFailed`` for a convolution of volumes: the file would be written, and fail in its first run."""
    from calibration.tensor_keys import module_path

    for node in program.graph.nodes:
        if str(node.target) in VOLUMES:
            raise LoweringFailed(
                f"executorch: layer '{module_path(node)}' is a 3-D convolution, for which ExecuTorch has no kernel. "
                "Write it as a 2-D convolution, or leave this target out of `target`."
            )


def _product_mult_adds(one: Sequence[int], output: Sequence[int]) -> int:
    """Of ``[…, M, K] · […, K, N]``: every value of the output is a sum of K products."""
    return math.prod(output) * one[-1]


def _call_mult_adds(name: str, arguments: list[int], values: list[Any]) -> int:
    """Of a layer that the delegate did not take: the result stands last among a kernel's arguments."""
    weight, output = (values[arguments[index]].val.sizes for index in (LAYER_WEIGHTS[name], -1))
    channels = weight[0] if name in ("aten::convolution", "aten::linear") else weight[1]
    return int(math.prod(output) * math.prod(weight) // channels)


def _activations(graph: XnnpackGraph) -> list[Any]:
    """Scale and zero point of quantized tensors that are no constants."""
    from calibration.ranges import QParams

    return [
        QParams(value.parameters.scale, value.parameters.zero_point)
        for value in graph.values
        if value.parameters is not None and value.parameters.scale is not None and not value.tensor.constant_buffer_idx
    ]


TARGET = ExecuTorchTarget()
