"""Layers along one axis (``Conv1d`` and 1-d pooling) as layers of a plane that is one row high.

::

    x [N, C, L]: conv1d, relu, max_pool1d   →   unsqueeze [N, C, 1, L], conv2d, relu, max_pool2d, squeeze [N, C, L]

int8 kernels, delegates and the calibration know two-dimensional convolution only. Weights get an axis of one value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten

ROW = 2
"""The axis of one value in ``[N, C, 1, L]``."""

ELEMENTWISE = {
    aten.relu.default, aten.relu6.default, aten.hardtanh.default, aten.leaky_relu.default, aten.elu.default,
    aten.gelu.default, aten.silu.default, aten.mish.default, aten.softplus.default, aten.tanh.default,
    aten.sigmoid.default, aten.hardswish.default, aten.hardsigmoid.default, aten.batch_norm.default,
    aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor,
}  # fmt: skip
"""Operators that compute the same with and without the row, and so can stand before it goes."""


def to_planes(network: FlatNetwork) -> None:
    """Write 1-d convolutions and pooling as 2-d ones; rows go as late as they can, so that activations fuse."""
    for node in network.nodes:
        change = ONE_DIMENSIONAL.get(node.target)
        if change is None or node.kwargs or len(node.meta["val"].shape) != 3:
            continue
        source = node.args[0]
        plane = _insert(network, node, aten.unsqueeze.default, (source, ROW))
        change(network, node, plane)
        _without_row(network, node)
    for node in network.nodes:
        if node.target in ELEMENTWISE and (rows := [arg for arg in node.all_input_nodes if _is_without_row(arg)]):
            others = [arg for arg in node.all_input_nodes if arg not in rows]
            if not others or node.target == aten.batch_norm.default:
                _compute_with_row(network, node, rows)
        if node.target == aten.unsqueeze.default and node.args[1] == ROW and _is_without_row(node.args[0]):
            (row,) = node.all_input_nodes
            network.redirect(node, row.all_input_nodes[0])
    network.clean()


def _convolution(network: FlatNetwork, node: Node, plane: Node) -> None:
    _, weight, bias, stride, padding, dilation, groups = arguments_of(node, None, None, None, [1], [0], [1], 1)
    if padding == "valid":
        padding = [0]
    elif padding == "same":
        value = network.constant(weight)
        taps = (weight.meta["val"] if value is None else value).shape[-1]
        reach = dilation[0] * (taps - 1)
        padding = [reach // 2]
        if reach % 2:
            plane = _insert(network, node, aten.pad.default, (plane, [0, 1]))
    row = _weight_with_row(network, node, weight)
    node.target = aten.conv2d.default
    node.args = (plane, row, bias, *_pairs(1, stride), *_pairs(0, padding), *_pairs(1, dilation), groups)


def _transposed_convolution(network: FlatNetwork, node: Node, plane: Node) -> None:
    _, weight, bias, stride, padding, output_padding, groups, dilation = arguments_of(
        node, None, None, None, [1], [0], [0], 1, [1]
    )
    row = _weight_with_row(network, node, weight)
    node.target = aten.conv_transpose2d.input
    node.args = (
        plane, row, bias, *_pairs(1, stride), *_pairs(0, padding, output_padding), groups, *_pairs(1, dilation),
    )  # fmt: skip


def _maximum(network: FlatNetwork, node: Node, plane: Node) -> None:
    del network
    _, kernel, stride, padding, dilation, ceil = arguments_of(node, None, None, [], [0], [1], False)
    node.target = aten.max_pool2d.default
    node.args = (plane, *_pairs(1, kernel, stride or kernel), *_pairs(0, padding), *_pairs(1, dilation), ceil)


def _average(network: FlatNetwork, node: Node, plane: Node) -> None:
    del network
    _, kernel, stride, padding = arguments_of(node, None, None, [], [0])
    options = arguments_of(node)[4:]
    node.target = aten.avg_pool2d.default
    node.args = (plane, *_pairs(1, kernel, stride or kernel), *_pairs(0, padding), *options)


def _adaptive_average(network: FlatNetwork, node: Node, plane: Node) -> None:
    del network
    node.target, node.args = aten.adaptive_avg_pool2d.default, (plane, *_pairs(1, node.args[1]))


ONE_DIMENSIONAL: dict[Any, Callable[[FlatNetwork, Node, Node], None]] = {
    aten.conv1d.default: _convolution,
    aten.conv1d.padding: _convolution,
    aten.conv_transpose1d.default: _transposed_convolution,
    aten.max_pool1d.default: _maximum,
    aten.avg_pool1d.default: _average,
    aten.adaptive_avg_pool1d.default: _adaptive_average,
}


def _pairs(down: int, *across: Any) -> list[list[int]]:
    """Each number along the axis as a pair for the plane."""
    return [[down, values if isinstance(values, int) else int(values[0])] for values in across]


def _weight_with_row(network: FlatNetwork, node: Node, weight: Any) -> Any:
    """The weight ``[outputs, inputs, k]`` as ``[outputs, inputs, 1, k]``, under its name if nobody else reads it."""
    value = network.constant(weight)
    if value is None:
        return _insert(network, node, aten.unsqueeze.default, (weight, ROW))
    if len(weight.users) == 1:
        network.change(weight, _with_row(value))
        row = weight
    else:
        row = network.add_constant("weight", _with_row(value), node)
    network.note(str(row.target), _with_row, [weight])
    return row


def _with_row(weight: torch.Tensor) -> torch.Tensor:
    return weight.unsqueeze(ROW)


def _insert(network: FlatNetwork, before: Node, operator: Any, arguments: tuple[Any, ...]) -> Node:
    return network.add_call(operator, arguments, before)


def _without_row(network: FlatNetwork, node: Node) -> None:
    """Let the readers of a node, which now has a row, read it without."""
    without = network.add_call(aten.squeeze.dim, (node, ROW), node.next, value=node.meta["val"], like=node)
    node.replace_all_uses_with(without, delete_user_cb=lambda reader: reader is not without)
    node.meta = {**node.meta, "val": node.meta["val"].unsqueeze(ROW)}


def _is_without_row(node: Any) -> bool:
    """Whether a node only drops the row of a plane."""
    if not isinstance(node, Node) or node.target != aten.squeeze.dim:
        return False
    return bool(node.args[1] == ROW) and _rank(node) == 3


def _compute_with_row(network: FlatNetwork, node: Node, rows: list[Node]) -> None:
    """Turn squeeze → operator into operator → squeeze."""
    for row in rows:
        node.replace_input_with(row, row.all_input_nodes[0])
    _without_row(network, node)


def _rank(node: Node) -> int:
    return len(node.meta["val"].shape)
