"""Whether a captured network computes as it should on a device: no layer as in training, and nothing by chance."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pipeline.errors import BadInput
from pipeline.graphs.arguments import argument_named
from pipeline.graphs.flat import FlatNetwork, writes

aten: Any = torch.ops.aten

BATCH_NORM = aten.batch_norm.default
DROPOUTS = {
    aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default, aten.feature_dropout_.default,
    aten.alpha_dropout.default, aten.alpha_dropout_.default, aten.feature_alpha_dropout.default,
    aten.feature_alpha_dropout_.default,
}  # fmt: skip

RECURRENT = {aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input}
"""Layers over sequences; they have dropout of their own."""

CHANCE_OF = {
    aten.scaled_dot_product_attention.default: "dropout_p",
    aten.rrelu.default: "training",
    aten.rrelu_.default: "training",
    **dict.fromkeys(RECURRENT, "train"),
}
"""Operators that draw random numbers only if this argument says so."""

IN_EVALUATION_MODE = "the network is in evaluation mode, so "
"""Why ``network.eval()`` is no advice: this program has called it."""


def check_evaluation_mode(network: FlatNetwork, first: str = IN_EVALUATION_MODE) -> None:
    """Check every operator that a device would have to compute, by the module that holds it.

    What depends on parameters alone is computed here, once; a batch norm of weights (weight standardization) is no
    layer in training. ``first`` stands in front of the advice on how to write the call.

    Raises:
        BadInput: an operator that behaves as in training, draws random numbers, or changes a tensor that the network
            keeps.
    """
    moving = _depending_on_the_image(network)
    for node in network.nodes:
        fixed = node not in moving
        if node.target == BATCH_NORM and node.args[5] and not (fixed and node.args[3] is None):
            raise BadInput(_batch_norm(node, first))
        if is_random(node):
            raise BadInput(_chance(node, first))
        if writes(node) and network.constant(node.args[0]) is not None:
            raise BadInput(
                f"The network computes '{node.target}' {place(node)} as in training: {first}change tensors that it "
                "keeps in training only (if self.training: …), and give functional calls training=self.training."
            )


def check_int8_forms(network: FlatNetwork) -> None:
    """Check that no layer with weights is hidden in an operator that has no int8 form.

    Raises:
        BadInput: a recurrent layer.
    """
    for node in network.nodes:
        if node.target in RECURRENT:
            raise BadInput(
                f"int8: the recurrent layer '{node.target}' {place(node)} has no int8 form here. Ask for "
                "`precision=fp32` or fp16, or write it as linear layers step by step."
            )


def is_random(node: Node) -> bool:
    """Whether an operator draws random numbers."""
    if node.target in DROPOUTS:
        return bool(node.args[2] and node.args[1] != 0)
    if node.target in CHANCE_OF:
        return bool(argument_named(node, CHANCE_OF[node.target]))
    tags: Any = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags


def named(node: Node) -> str:
    """The module that holds an operator, in quotes; the network itself has no name."""
    return f"'{node.meta['path']}'" if node.meta["path"] else "of the network itself"


def place(node: Node) -> str:
    """Where an operator is, for the end of a sentence."""
    return f"in '{node.meta['path']}'" if node.meta["path"] else "in the network's own forward"


def _batch_norm(node: Node, first: str) -> str:
    if node.args[3] is None:
        return (
            f"The batch norm {named(node)} has no running statistics (track_running_stats=False): it would need a "
            "whole batch, and a device has one image. Train it with track_running_stats=True, or use nn.GroupNorm."
        )
    return (
        f"The network computes '{node.target}' {place(node)} as in training: {first}give functional calls "
        "training=self.training."
    )


def _chance(node: Node, first: str) -> str:
    if node.target in DROPOUTS or node.target in CHANCE_OF:
        return (
            f"The network computes '{node.target}' {place(node)} as in training: {first}give functional calls "
            "training=self.training."
        )
    return (
        f"The network draws random numbers ('{node.target}' {place(node)}), so that no two answers are alike: draw "
        "them in training only (if self.training: …)."
    )


def _depending_on_the_image(network: FlatNetwork) -> set[Node]:
    found: set[Node] = set()
    for node in network.nodes:
        if node.op == "placeholder" or not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found
