"""TFLite ``.tflite``: raw bytes uint8 NHWC in; logits float32 out, or int8 with their scale in an int8 file.

litert-torch takes the quantized graph with float weights behind quantize/dequantize pairs. fp16 and int8-weights
store smaller weights in the float file (ai-edge-quantizer); the arithmetic stays in float.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_apps.files import write_whole
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import METADATA_NAME, FileManifest, to_json
from edge_apps.runtime.precisions import Precision
from pipeline.compat.ai_edge_litert import partition_outputs
from pipeline.compat.litert_torch import fewest_transposes, only_as_annotated
from pipeline.targets.base import Census, Delegation, Source, missing_packages

LAYERS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
PRODUCT = "BATCH_MATMUL"
"""A matrix product of two tensors: no layer, because it has no weights."""

IDENTIFIER = b"TFL3"
ENTRANCE = Counter({"CAST": 1})
"""The picture's bytes as float."""


class TFLiteTarget:
    """See the module."""

    name = "tflite"
    suffix = ".tflite"
    aliases = ("litert", "tfl", "tensorflow-lite")
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int8-weights")
    delegate = "XNNPACK"
    summary = "phones and boards by LiteRT"

    def missing(self) -> str | None:
        """What to install first, or None."""
        return missing_packages("torch", "litert_torch", "ai_edge_litert", "ai_edge_quantizer", "torchao")

    def lower(self, source: Source, manifest: FileManifest, path: Path) -> tuple[str, ...]:
        """Capture with bytes in front, quantize with the given ranges, convert, add the metadata."""
        import litert_torch
        import torch
        from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
        from litert_torch.quantize.quant_config import QuantConfig

        from calibration.float_operators import float_operators
        from calibration.quantize import quantize
        from pipeline.graphs.front_ends import BytesInput, capture_bytes, graph_of
        from pipeline.targets.litert_rewrites.kept_in_float import keep_in_float
        from pipeline.targets.litert_rewrites.padding import pad_before_pooling
        from pipeline.targets.litert_rewrites.subtractions import plain_subtractions

        program = capture_bytes(BytesInput(source.network, manifest.preprocess).eval(), manifest.preprocess)
        graph = pad_before_pooling(graph_of(program))
        example = (torch.zeros(1, manifest.preprocess.height, manifest.preprocess.width, 3, dtype=torch.uint8),)
        float_layers: tuple[str, ...] = ()
        config = None
        mixed = False
        if manifest.precision == "int8":
            graph, float_layers = quantize(graph, source.required_ranges, fold_weights=False)
            keep_in_float(graph)
            mixed = bool(float_operators(graph))
            # Says only that the pairs in the graph are static int8; the scales are those already in it.
            config = QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(get_symmetric_quantization_config()))
        plain_subtractions(graph)  # no sooner: ranges are known by the operators' names
        with fewest_transposes(), only_as_annotated() if mixed else contextlib.nullcontext():
            model = litert_torch.convert(graph, example, quant_config=config)
        data = _flatbuffer(model)
        if manifest.precision in ("fp16", "int8-weights"):
            data = _smaller_weights(data, manifest.precision)
        write_whole(path, _finished(data, to_json(manifest)))
        return float_layers

    def census(self, content: Content) -> Census:
        """Count operators from the tables of the file; partitions from an interpreter that took them."""
        from ai_edge_litert.interpreter import Interpreter

        model = read_model(content.data)
        graph = model.subgraphs[0]
        operators = [(_operator_name(model, operator), operator) for operator in graph.operators]
        computed = _computed_from_inputs(graph)
        fully = [operator for name, operator in operators if name in LAYERS]
        layers = [operator for operator in fully if operator.inputs[1] not in computed]
        integer = sum(_is_int8(graph, layer) for layer in layers)
        interpreter = Interpreter(model_content=content.data, num_threads=1)
        interpreter.allocate_tensors()
        partitions = partition_outputs(interpreter)
        taken = set().union(*partitions)

        def is_outside(operator: Any) -> bool:
            result = int(operator.outputs[0])
            return result not in taken and _is_computed(interpreter, result)

        products = [operator for name, operator in operators if name == PRODUCT]
        costs = [(_mult_adds(graph, layer), is_outside(layer)) for layer in fully]
        costs += [(_product_mult_adds(graph, product), is_outside(product)) for product in products]
        return Census(
            operators=Counter(name for name, _ in operators),
            delegation=Delegation(
                partitions=len(partitions),
                outside=Counter(name for name, operator in operators if is_outside(operator)),
                entrance=ENTRANCE,
                mult_adds=sum(cost for cost, _ in costs),
                inside=sum(cost for cost, outside in costs if not outside),
            ),
            integer_layers=integer,
            float_layers=len(layers) - integer,
            activations=frozenset(_activations(model, graph)),
        )


def _computed_from_inputs(graph: Any) -> set[int]:
    """The tensors that depend on the image.

    The converter writes a product of two tensors as FULLY_CONNECTED where it can. It has no weights, so it
    does not count as a layer.
    """
    computed = {int(index) for index in graph.inputs}
    for operator in graph.operators:  # in the order of execution
        if not computed.isdisjoint(map(int, operator.inputs)):
            computed.update(map(int, operator.outputs))
    return computed


def _is_computed(interpreter: Any, index: int) -> bool:
    """Whether a tensor exists while the file runs; inside a delegate's partition it does not."""
    try:
        interpreter.get_tensor(index)
    except ValueError:
        return False
    return True


def _mult_adds(graph: Any, layer: Any) -> int:
    """Outputs […, C] times the weights that each one sums over; a depthwise filter is [1, height, width, outputs]."""
    outputs, weights = (graph.tensors[i].shape for i in (layer.outputs[0], layer.inputs[1]))
    return math.prod(map(int, outputs)) * math.prod(map(int, weights)) // int(outputs[-1])


def _product_mult_adds(graph: Any, product: Any) -> int:
    """Every value of the output is a sum over the first input's last axis, or the one before it if transposed."""
    output, one = (graph.tensors[i].shape for i in (product.outputs[0], product.inputs[0]))
    summed = one[-2] if product.builtinOptions.adjX else one[-1]
    return math.prod(map(int, output)) * int(summed)


def _flatbuffer(model: Any) -> bytes:
    """The bytes of a converted model; litert-torch writes files only."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        model.export(str(path))
        return path.read_bytes()


def _smaller_weights(data: bytes, precision: Precision) -> bytes:
    """Store every weight as float16, or as int8 per output channel; nothing is skipped for being small."""
    from ai_edge_quantizer import qtyping, quantizer

    chosen = quantizer.Quantizer(data)
    if precision == "fp16":
        weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        algorithm = "float_casting"
    else:
        weights = qtyping.TensorQuantizationConfig(
            num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
        )
        algorithm = "min_max_uniform_quantize"
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights,
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
        min_weight_elements=0,
    )
    for operator in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        chosen.update_quantization_recipe(
            regex=".*",
            operation_name=qtyping.TFLOperationName(operator),
            op_config=config,
            algorithm_key=algorithm,
        )
    return bytes(chosen.quantize().quantized_model)


def read_model(data: bytes) -> Any:
    """Return the object form of a ``.tflite``, every constant inside its table.

    ai-edge-quantizer writes the constants of larger models behind the flatbuffer, and tables with an offset from the
    start of the file. Packed again such a table would point anywhere, so its bytes are fetched here.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(data), 0))
    for buffer in model.buffers:
        if buffer.offset > 1:  # 0 and 1 say that the constant is in the table, or that there is none
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def write_model(model: Any) -> bytes:
    """Pack what ``read_model`` gave, changed or not."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


# The converter names tensors by the classes that they were captured through, and by those alone: a hundred bytes that
# are the same for all, and of a file of 100 KB six percent.
_CAPTURED_THROUGH = re.compile(
    r"[^;]*\.Place_|[^;]*\.FlatNetwork_network|torch\.export\.[^;]*;*|pipeline\.graphs\.front_ends\."
)


def _finished(data: bytes, text: str) -> bytes:
    """Add one METADATA entry to a model, shorten the names of its tensors, and write it out again."""
    from ai_edge_litert import schema_py_generated as schema

    model = read_model(data)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(text.encode(), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    for graph in model.subgraphs:
        names = _short_names([tensor.name.decode() for tensor in graph.tensors])
        for tensor, name in zip(graph.tensors, names, strict=True):
            tensor.name = name
    return write_model(model)


def _short_names(names: Sequence[str]) -> list[str]:
    """One for each, all different."""
    short: dict[str, None] = {}
    for number, name in enumerate(names):
        found = _CAPTURED_THROUGH.sub("", name).strip(";") or "constant"
        short[found if found not in short else f"{found}.{number}"] = None
    return list(short)


def _operator_name(model: Any, operator: Any) -> str:
    from ai_edge_litert import schema_py_generated as schema

    codes = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    code = model.operatorCodes[operator.opcodeIndex]
    return str(codes[max(code.builtinCode, code.deprecatedBuiltinCode)])


def _is_int8(graph: Any, operator: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    tensors = [graph.tensors[i] for i in (operator.inputs[0], operator.inputs[1], operator.outputs[0])]
    return all(tensor.type == schema.TensorType.INT8 for tensor in tensors)


def _activations(model: Any, graph: Any) -> list[Any]:
    """Scale and zero point of int8 tensors that are no constants."""
    from ai_edge_litert import schema_py_generated as schema

    from calibration.ranges import QParams

    found = []
    for tensor in graph.tensors:
        is_constant = model.buffers[tensor.buffer].data is not None
        if tensor.type == schema.TensorType.INT8 and not is_constant:
            found.append(QParams(float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])))
    return found


TARGET = TFLiteTarget()
