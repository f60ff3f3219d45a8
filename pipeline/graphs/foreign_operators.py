"""Operators that are not PyTorch's own: of extensions, of the user's, of another quantizer."""

from __future__ import annotations

from pipeline.compat.torch import is_operator, namespace_of, operator_name
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
        if not is_operator(node.target) or namespace_of(node.target) == OWN:
            continue
        name = operator_name(node.target)
        quantized = "quantized" in namespace_of(node.target)
        advice = "Export the float network, which is quantized here" if quantized else "Write it with torch's functions"
        raise BadInput(
            f"The network calls '{name}' {place(node)}, which is not one of PyTorch's own operators, and no device "
            f"file holds others. {advice}."
        )
