"""Core ML ``.mlpackage``: an RGB image in; class label, probabilities and the network's own output out.

That output is called ``logits``, or ``probabilities`` where the network ends in softmax or sigmoid.

int8 files keep their scales in float32: with ``FLOAT16`` compute precision coremltools would round every scale, and
the file would no longer be the graph that was calibrated.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import METADATA_NAME, OUTPUTS, FileManifest, to_json
from edge_apps.runtime.precisions import Precision
from pipeline.compat.coremltools import RESCALING, read_program
from pipeline.targets.base import Census, Source, missing_packages

LAYERS = {"conv", "linear"}
ACTIVATIONS = {"clip", "relu", "relu6"}


class CoreMLTarget:
    """See the module."""

    name = "coreml"
    suffix = ".mlpackage"
    aliases = ("mlpackage", "ios", "apple", "core-ml")
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int8-weights")
    delegate: str | None = None
    summary = "iPhone, iPad and Mac (iOS 17, macOS 14 and later; fp16 from iOS 15)"

    def missing(self) -> str | None:
        """What to install first, or None."""
        return missing_packages("torch", "coremltools", "torchao")

    def lower(self, source: Source, manifest: FileManifest, path: Path) -> tuple[str, ...]:
        """Capture with an image in front, quantize with the given ranges, convert to an ML program."""
        import coremltools as ct

        from calibration.quantize import quantize
        from pipeline.graphs.front_ends import ClassifierInput, capture_image, graph_of

        front = ClassifierInput(source.network, manifest.preprocess, manifest.output).eval()
        program = capture_image(front, manifest.preprocess)
        float_layers: tuple[str, ...] = ()
        if manifest.precision == "int8":
            graph, float_layers = quantize(graph_of(program), source.required_ranges, fold_weights=True)
            program = capture_image(graph, manifest.preprocess)
        half = manifest.precision == "fp16"
        program = program.run_decompositions({})
        probabilities = program.graph_signature.user_outputs[0]  # attention may have taken the name "softmax"
        model = ct.convert(
            program,
            inputs=[
                ct.ImageType(
                    name="image",
                    shape=(1, 3, manifest.preprocess.height, manifest.preprocess.width),
                    color_layout=ct.colorlayout.RGB,
                )
            ],
            classifier_config=ct.ClassifierConfig(list(manifest.labels), predicted_probabilities_output=probabilities),
            # From iOS 16 on, float16 would also become the outputs' type, which fails for a classifier with logits.
            minimum_deployment_target=ct.target.iOS15 if half else ct.target.iOS17,
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            convert_to="mlprogram",
            pass_pipeline=_without_rescaling(ct.PassPipeline.DEFAULT),
            skip_model_load=True,
        )
        if manifest.precision == "int8-weights":
            model = _smaller_weights(model)
        model = _named(model, OUTPUTS[manifest.output])
        model.user_defined_metadata[METADATA_NAME] = to_json(manifest)
        model.short_description = f"{manifest.model}, {manifest.precision}, {len(manifest.labels)} classes"
        if path.exists():
            shutil.rmtree(path)
        model.save(str(path))
        return float_layers

    def census(self, content: Content) -> Census:
        """Read the package back into a program and count its operations; Core ML has no delegate to look at here."""
        with content.on_disk() as path:  # weights are read from it when they are looked at
            operations, embedded = _read_back(path)
            layers = [_is_integer(operation) for operation in operations if operation.op_type in LAYERS]
            return Census(
                operators=Counter(operation.op_type for operation in operations if operation.op_type != "const"),
                delegation=None,
                integer_layers=sum(layers),
                float_layers=len(layers) - sum(layers),
                activations=frozenset(_activations(operations)),
                embedded=embedded,
            )


def _without_rescaling(passes: Any) -> Any:
    """The default passes less the two that give quantized tensors other scales, or another integer type.

    Both are equal on paper, but the file would no longer show the scales of the one calibration, and the second adds
    a dequantize/quantize pair in front of the classifier.
    """
    passes.remove_passes(RESCALING)
    return passes


def _smaller_weights(model: Any) -> Any:
    """int8 weights per output channel; ``weight_threshold=0`` because the default skips those under 2,048 elements."""
    from coremltools.optimize.coreml import OpLinearQuantizerConfig, OptimizationConfig, linear_quantize_weights

    config = OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
    return linear_quantize_weights(model, config=OptimizationConfig(global_config=config))


def _named(model: Any, name: str) -> Any:
    """Call the second output by this name; the converter names it after the last operation of the graph."""
    import coremltools as ct

    specification = model.get_spec()
    arrays = [o.name for o in specification.description.output if o.type.WhichOneof("Type") == "multiArrayType"]
    ct.utils.rename_feature(specification, arrays[0], name)
    return ct.models.MLModel(specification, weights_dir=model.weights_dir, skip_model_load=True)


def _read_back(path: Path) -> tuple[list[Any], str | None]:
    """Return the operations of a package, and what it says of itself."""
    import coremltools as ct

    model = ct.models.MLModel(str(path), skip_model_load=True)
    program = read_program(model)
    operations = [operation for function in program.functions.values() for operation in function.operations]
    return operations, model.user_defined_metadata.get(METADATA_NAME)


def _is_integer(operation: Any) -> bool:
    """Whether a layer's input and weight come from int8 and its output, after the activation, goes to int8."""
    source, weight = operation.inputs["x"].op, operation.inputs["weight"].op
    output = operation.outputs[0]
    readers = output.child_ops
    if len(readers) == 1 and readers[0].op_type in ACTIVATIONS:
        readers = readers[0].outputs[0].child_ops
    return (
        source is not None
        and source.op_type == "dequantize"
        and weight is not None
        and weight.op_type == "constexpr_affine_dequantize"
        and bool(readers)
        and all(reader.op_type == "quantize" for reader in readers)
    )


def _activations(operations: list[Any]) -> list[Any]:
    from calibration.ranges import QParams

    found = []
    for operation in operations:
        if operation.op_type == "quantize":
            zero_point = operation.inputs.get("zero_point")
            found.append(
                QParams(float(operation.inputs["scale"].val), 0 if zero_point is None else int(zero_point.val))
            )
    return found


TARGET = CoreMLTarget()
