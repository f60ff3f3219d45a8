"""More layers in float without calibrating again: what stays in int8 keeps its scales."""

from __future__ import annotations

import glob
from collections.abc import Iterable

from msgspec.structs import replace
from torch.fx import GraphModule

from calibration.ranges import Range, Ranges
from calibration.tensor_keys import TensorKeys


def keep_float(graph: GraphModule, ranges: Ranges, layers: Iterable[str]) -> Ranges:
    """The ranges of a graph in which these layers (module paths) are in float too.

    A concatenation stays in int8 while any of its parts is: the result of a layer that it joins is then quantized with
    the scale that all parts share. Where every part is in float, so is the concatenation.
    """
    patterns = (*ranges.recipe.float_layers, *(glob.escape(layer) for layer in layers))
    recipe = replace(ranges.recipe, float_layers=tuple(dict.fromkeys(patterns)))
    before, after = TensorKeys(graph, ranges.recipe), TensorKeys(graph, recipe)
    values: dict[str, Range] = {}
    observers: dict[str, str] = {}
    for node in graph.graph.nodes:
        old, new = before.of(node), after.of(node)
        if old in ranges.values:
            values[new] = ranges.values[old]
        if old in ranges.observers:
            observers[new] = ranges.observers[old]
    return replace(ranges, recipe=recipe, values=values, observers=observers)
