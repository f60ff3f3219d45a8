"""Operators that are not PyTorch's own: of extensions, of the user's, of another quantizer."""

from __future__ import annotations

import torch

from pipeline.errors import BadInput
from pipeline.graphs.evaluation_mode import place
from pipeline.graphs.flat import FlatNetwork

OWN = "aten"
"""The namespace of PyTorch's own operators."""


def check_operators(network: FlatNetwork) -> None:
    """Check that a network is made of PyTorch's own operators: no exporter has a form for others.

    Raises:
        BadInput: the first that is not, and the module that calls it.
    """
    for node in network.nodes:
        if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace == OWN:
            continue
        name = node.target._schema.name
        quantized = "quantized" in node.target.namespace
        advice = "Export the float network, which is quantized here" if quantized else "Write it with torch's functions"
        raise BadInput(
            f"The network calls '{name}' {place(node)}, which is not one of PyTorch's own operators, and no device "
            f"file holds others. {advice}."
        )
