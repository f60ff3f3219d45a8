"""What the target needs of coremltools beyond its documented interface."""

from __future__ import annotations

from typing import Any

RESCALING = {
    "common::distributive_quantized_binary_op_scale_normalization",
    "common::nullify_redundant_quantization_zero_point",
}
"""Passes of the default pipeline that give quantized tensors other scales, or another integer type."""


def read_program(model: Any) -> Any:
    """Return a loaded ``.mlpackage`` as a program of MIL, which coremltools only writes."""
    from coremltools.converters.mil.frontend.milproto import load

    specification = model.get_spec()
    return load.load(specification, specification.specificationVersion, model.weights_dir)
