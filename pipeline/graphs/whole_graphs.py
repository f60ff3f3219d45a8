"""Whether a captured graph is one that devices compute: an image in, logits out, and nothing but operators between."""

from __future__ import annotations

from typing import Any

from torch.fx import Graph, Node

from pipeline.compat.torch import is_control_flow, is_function_transform
from pipeline.errors import BadInput


def check_graph(graph: Graph) -> None:
    """Check that one image tensor comes in, one tensor of logits goes out, and no graph is inside the graph.

    Raises:
        BadInput: what the network does instead, where, and what helps.
    """
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    outputs = next(node for node in graph.nodes if node.op == "output").args[0]
    if len(inputs) != 1:
        raise BadInput(f"The network takes {len(inputs)} inputs; an image classifier takes one.")
    if not isinstance(outputs, (tuple, list)) or len(outputs) != 1 or not isinstance(outputs[0], Node):
        raise BadInput("The network does not return one tensor; a classifier returns its logits [N, K] and no more.")
    for node in graph.nodes:
        if node.op in ("call_module", "call_method", "call_function"):
            _check_node(node)


def _check_node(node: Node) -> None:
    name, where = str(node.target), _where(node)
    if name.endswith("wrap_with_autocast"):
        arguments: Any = node.args
        device, kind, enabled = (*arguments, None, None, None)[:3]
        precision = str(kind).removeprefix("torch.") if enabled else "its own precision"
        raise BadInput(
            f"The network computes in {precision}{where}, because its forward enters torch.autocast on '{device}': it "
            "is exported from float32. Put autocast around the training step instead of into the forward."
        )
    if node.op != "call_function" or is_control_flow(node.target):
        raise BadInput(
            f"The network has control flow ({name}{where}); no device file holds that. Compute every path, and choose "
            "between their results with torch.where."
        )
    if is_function_transform(node.target):
        raise BadInput(
            f"The network is transformed by torch.vmap or torch.func{where}, which cannot be captured: write it with "
            "operators that take the whole batch."
        )
    if name.endswith("_assert_scalar.default"):
        raise BadInput(
            f"The network checks values while it runs{where} (a path or a size that depends on the values of an "
            "image): no device file holds that. Compute every path, and choose between them with torch.where."
        )


def _where(node: Node) -> str:
    return f" in '{node.meta['path']}'" if node.meta["path"] else ""
