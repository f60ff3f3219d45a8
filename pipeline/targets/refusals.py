"""Why an exporter library did not take a network, in one line: the operator, and the module that it is in.

The libraries print graphs of their own (MLIR, MIL) instead; the user has never seen those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edge_apps.chatter import hushed
from edge_apps.errors import first_line

if TYPE_CHECKING:
    from torch import nn

OPERATORS = (
    re.compile(r"failed to legalize operation '([\w.]+)'"),  # MLIR, of litert-torch
    re.compile(r"Lowering not found:\s*([\w.:]+)"),  # litert-torch
    re.compile(r"convert function for op '(\w+)' not implemented"),  # coremltools
    re.compile(r"Unsupported fx node (\w+?)(?:_\d+)?, kind"),  # coremltools
    re.compile(r"error: '([\w.]+)' op\b"),  # MLIR, of litert-torch
    re.compile(r"builtin opcode '(\w+)'"),  # LiteRT
    re.compile(r"Node number \d+ \((\w+)\)"),  # LiteRT
    re.compile(r"unresolved custom op: (\w+)"),  # LiteRT
    re.compile(r"Missing kernel: ([\w.:]+)"),  # ours, of what ExecuTorch's runtime has
    re.compile(r"Missing out variants: \{'([\w.:]+)'"),  # executorch
    re.compile(r"(?:torch\.ops\.|torch\._ops\.)?\b(aten[.:]+\w+)"),
)
"""How they name an operator, the surest first."""

MADE_OF = {
    "convolution": ("conv",),
    "reduce_window": ("pool", "cumsum"),
    "select_and_scatter": ("pool",),
    "fft": ("fft",),
    "_fft_r2c": ("fft",),
    "_fft_c2c": ("fft",),
    "_fft_c2r": ("fft",),
    "sort": ("sort", "topk", "argsort"),
    "gather": ("index", "gather", "embedding", "grid_sampler"),
    "scatter": ("scatter", "index_put"),
    "dot_general": ("matmul", "bmm", "linear", "einsum"),
    "dynamic_slice": ("slice", "narrow"),
    "iota": ("arange",),
    "conv_2d": ("conv",),
    "broadcast_to": ("expand", "broadcast", "repeat"),
    "batch_matmul": ("matmul", "bmm"),
}
"""An operator of MLIR, and parts of the names of the ATen operators that become it."""

DUMP = re.compile(r"\s*(?:%\w+ =|\"?\b(?:mhlo|stablehlo|tfl|func)\.\w+\"?\(|: \(tensor<|<\{).*")
"""Where an error message goes on as a graph."""

OWN_LINES = re.compile(r"(?:/[\w.@+-]+)+(?::\d+)*: *(?:error: *)?")
"""Files of this program or of a library, which MLIR takes for the user's."""

MOST_PLACES = 3


def refusal(error: Exception, network: nn.Module) -> str:
    """Return what an exporter failed on and where it is in the network, with what to do; one line.

    ``network`` is the flat network that was given to it.
    """
    from pipeline.graphs.flat import writes

    operator = _operator(str(error))
    if complex_places := list(_complex(network)):
        return (
            f"the network computes with complex numbers ({'; '.join(complex_places[:MOST_PLACES])}), which this target "
            "does not. Write that layer with real numbers, or leave this target or precision out."
        )
    if operator is None and (written := [_placed(node) for node in _nodes(network) if writes(node)]):
        return (
            f"the network writes into a part of a tensor ({'; '.join(written[:MOST_PLACES])}) in a way that cannot be "
            "exported. Write the result with torch.cat or torch.where."
        )
    if operator is None:
        line = OWN_LINES.sub("", DUMP.sub("", first_line(error))).rstrip(":;. ")
        return f"the exporter failed with {type(error).__name__}: {line}."
    places = list(dict.fromkeys(_places(operator, network))) or list(dict.fromkeys(_decomposed(operator, network)))
    found = f" ({'; '.join(places[:MOST_PLACES])}{'; …' if len(places) > MOST_PLACES else ''})" if places else ""
    if halves := [place for place in _of_half(network) if place in places]:
        return (
            f"the exporter has no form for '{operator}' in half precision, in which the network computes there "
            f"({'; '.join(halves[:MOST_PLACES])}). Let that module compute in float32, or leave this target or "
            "precision out."
        )
    return (
        f"the exporter has no form for '{operator}'{found}. Write that layer with other operators, or leave this "
        "target or precision out."
    )


def _operator(text: str) -> str | None:
    for pattern in OPERATORS:
        if found := pattern.search(text):
            return found[1]
    return None


def _nodes(network: nn.Module) -> Sequence[Any]:
    nodes: Sequence[Any] = getattr(network, "nodes", ())
    return nodes


def _places(operator: str, network: nn.Module) -> Iterator[str]:
    """The network's operators that it may be, with their modules."""
    parts = _parts(operator)
    for node in _nodes(network):
        if node.op == "call_function" and any(part in str(node.target).partition(".")[2] for part in parts):
            yield _placed(node)


def _parts(operator: str) -> tuple[str, ...]:
    """Parts of the names of the operators that an exporter may mean."""
    name = re.split(r"[.:]+", operator)
    base = name[1] if name[0] in ("aten", "prims", "mhlo", "stablehlo", "tfl") and len(name) > 1 else name[0]
    base = base.lower().removeprefix("stablehlo_")
    return MADE_OF.get(base, (base.removesuffix("_copy").lstrip("_"),))


def _decomposed(operator: str, network: nn.Module) -> Iterator[str]:
    """The modules whose operators become it once an exporter takes them apart."""
    import torch

    from pipeline.graphs.flat import path_of

    image = next((node.meta["val"] for node in _nodes(network) if node.op == "placeholder"), None)
    if image is None:
        return
    example = torch.zeros(1, *image.shape[1:])
    try:
        with hushed():
            program = torch.export.export(network, (example,), strict=False).run_decompositions()
    except Exception:  # the refusal is said without a place then
        return
    for node in program.graph.nodes:
        is_it = node.op == "call_function" and any(part in str(node.target) for part in _parts(operator))
        if is_it and path_of(node):
            yield f"in '{path_of(node)}'"


def _of_half(network: nn.Module) -> Iterator[str]:
    """The operators whose result has half precision, with their modules."""
    for node in _nodes(network):
        if node.op == "call_function" and str(getattr(node.meta.get("val"), "dtype", "")) in HALVES:
            yield _placed(node)


HALVES = ("torch.float16", "torch.bfloat16")


def _complex(network: nn.Module) -> Iterator[str]:
    """The operators whose result is complex, with their modules."""
    for node in _nodes(network):
        value = node.meta.get("val")
        if node.op == "call_function" and getattr(getattr(value, "dtype", None), "is_complex", False):
            yield _placed(node)


def _placed(node: Any) -> str:
    return f"{node.target} in '{node.meta['path']}'" if node.meta["path"] else str(node.target)
