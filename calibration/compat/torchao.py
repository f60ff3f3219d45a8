"""What calibration needs of torchao beyond its documented interface."""

from __future__ import annotations

from torch.fx import Node
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpecBase
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY


def annotate(node: Node, inputs: dict[Node, QuantizationSpecBase | None], output: QuantizationSpecBase | None) -> None:
    """Tell ``prepare_pt2e`` how the inputs and the output of an operator are quantized."""
    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(input_qspec_map=inputs, output_qspec=output, _annotated=True)
