"""Why an exporter library did not take a network, in one line: the operator, and the module that it is in.

The libraries print graphs of their own (MLIR, MIL) instead; the user has never seen those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edge_apps.errors import first_line

if TYPE_CHECKING:
    from torch import nn

OPERATORS = (
    re.compile(r"failed to legalize operation '([\w.]+)'"),  # MLIR, of litert-torch
    re.compile(r"Lowering not found:\s*([\w.:]+)"),  # litert-torch
    re.compile(r"convert function for op '(\w+)' not implemented"),  # coremltools
    re.compile(r"Unsupported fx node (\w+?)(?:_\d+)?, kind"),  # coremltools
    re.compile(r"builtin opcode '(\w+)'"),  # LiteRT
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
}
"""An operator of MLIR, and parts of the names of the ATen operators that become it."""

DUMP = re.compile(r"\s*(?:%\w+ =|\"?\b(?:mhlo|stablehlo|tfl|func)\.\w+\"?\(|: \(tensor<|<\{).*")
"""Where an error message goes on as a graph."""

MOST_PLACES = 3


def refusal(error: Exception, network: nn.Module) -> str:
    """Return what an exporter failed on and where it is in the network, with what to do; one line.

    ``network`` is the flat network that was given to it.
    """
    operator = _operator(str(error))
    if complex_places := list(_complex(network)):
        return (
            f"the network computes with complex numbers ({'; '.join(complex_places[:MOST_PLACES])}), which this target "
            "does not. Write that layer with real numbers, or leave this target or precision out. Run with --debug for "
            "the traceback."
        )
    if operator is None:
        line = DUMP.sub("", first_line(error)).rstrip(":; ")
        return f"the exporter failed with {type(error).__name__}: {line}. Run with --debug for the traceback."
    places = list(dict.fromkeys(_places(operator, network)))
    found = f" ({'; '.join(places[:MOST_PLACES])}{'; …' if len(places) > MOST_PLACES else ''})" if places else ""
    return (
        f"the exporter has no form for '{operator}'{found}. Write that layer with other operators, or leave this "
        "target or precision out. Run with --debug for the traceback."
    )


def _operator(text: str) -> str | None:
    for pattern in OPERATORS:
        if found := pattern.search(text):
            return found[1]
    return None


def _places(operator: str, network: nn.Module) -> Iterator[str]:
    """The network's operators that it may be, with their modules."""
    nodes: Sequence[Any] = getattr(network, "nodes", ())
    name = re.split(r"[.:]+", operator)
    base = name[1] if name[0] in ("aten", "mhlo", "stablehlo", "tfl") and len(name) > 1 else name[0]
    base = base.lower().removeprefix("stablehlo_")
    parts = MADE_OF.get(base, (base.removesuffix("_copy").lstrip("_"),))
    for node in nodes:
        target = str(node.target)
        if node.op == "call_function" and any(part in target.partition(".")[2] for part in parts):
            yield _placed(node)


def _complex(network: nn.Module) -> Iterator[str]:
    """The operators whose result is complex, with their modules."""
    for node in getattr(network, "nodes", ()):
        value = node.meta.get("val")
        if node.op == "call_function" and getattr(getattr(value, "dtype", None), "is_complex", False):
            yield _placed(node)


def _placed(node: Any) -> str:
    return f"{node.target} in '{node.meta['path']}'" if node.meta["path"] else str(node.target)
