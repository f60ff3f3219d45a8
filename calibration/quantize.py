"""Prepare → calibrate → convert: one pass over the calibration images fixes every scale for every front end."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from calibration.errors import BadCalibration, BadRecipe
from calibration.float_region import dequantize_for_each_reader
from calibration.kernel_limits import fit_kernels
from calibration.moved import quantize_moved_values
from calibration.observers.observers import FIXED, Fixed, RangeObserver, Together, make_observer
from calibration.quantizer import EdgeQuantizer
from calibration.ranges import INPUT, QMAX, Range, Ranges
from calibration.recipe import Recipe
from calibration.tensor_keys import WEIGHTED


class Found(NamedTuple):
    """Every tensor's range by its key, and the name of the observer that chose it.

    ``fixed`` is a range that needs no calibration; where tensors that share a scale had several observers, their names
    are joined by ``+``.
    """

    values: dict[str, Range]
    observers: dict[str, str]


class Watch:
    """A copy of a graph whose tensors are observed, for one recipe or for several in one pass.

    The recipes may differ in how ranges are chosen, not in what stays in float. ``graph`` takes one batch;
    ``input_range`` is that of the normalised image, which follows from the preprocessing and is not calibrated.

    Raises:
        BadRecipe: a pattern that matches nothing.
    """

    def __init__(self, graph: GraphModule, recipes: Sequence[Recipe], input_range: Range) -> None:
        self._graph, self._recipes, self._input_range = graph, recipes, input_range
        self._observed = prepare_pt2e(copy.deepcopy(graph), EdgeQuantizer(recipes[0]))
        self._observers: list[list[RangeObserver]] = [[] for _ in recipes]
        for name, module in list(self._observed.named_children()):
            if isinstance(module, RangeObserver):
                watching = [_for_recipe(recipe, module) for recipe in recipes]
                self._observed.add_module(name, Together(watching))
                for observers, observer in zip(self._observers, watching, strict=True):
                    observers.append(observer)
        for recipe, observers in zip(recipes, self._observers, strict=True):
            _check_patterns(recipe, observers)

    def see(self, batch: torch.Tensor) -> None:
        """Run a batch; raises ``BadCalibration`` for an activation that is NaN or infinite."""
        with torch.no_grad():
            self._observed(batch)

    def found(self, recipe: int = 0) -> Found:
        """What the batches so far say to one of the recipes; more may follow."""
        values: dict[str, Range] = {}
        names: dict[str, set[str]] = {}
        for observer in self._observers[recipe]:
            # More than one tensor has this key only where concatenations share an input: one scale for them all.
            values[observer.key] = _union(observer.range(), values.get(observer.key))
            names.setdefault(observer.key, set()).add(observer.name)
        values[INPUT], names[INPUT] = self._input_range, {FIXED}
        fitting = fit_kernels(self._graph, self._recipes[recipe], values)
        return Found(fitting, {key: "+".join(sorted(several)) for key, several in names.items()})


def find_ranges(graph: GraphModule, batches: Iterable[torch.Tensor], recipe: Recipe, input_range: Range) -> Found:
    """Run the calibration batches through an observed copy of the graph and read every tensor's range.

    Raises:
        BadCalibration: no batch, or an activation that is NaN or infinite. What ``Watch`` raises.
    """
    watch = Watch(graph, [recipe], input_range)
    count = 0
    for batch in batches:
        watch.see(batch)
        count += 1
    if count == 0:
        raise BadCalibration("Calibration got no images.")
    return watch.found()


def _for_recipe(recipe: Recipe, observer: RangeObserver) -> RangeObserver:
    return observer if isinstance(observer, Fixed) else make_observer(recipe, observer.key)


def _check_patterns(recipe: Recipe, observers: Sequence[RangeObserver]) -> None:
    keys = sorted({observer.key for observer in observers if observer.name != FIXED} - {INPUT})
    for pattern in recipe.observers:
        if not any(fnmatchcase(key, pattern) for key in keys):
            shown = ", ".join(keys if len(keys) < 5 else [*keys[:3], "…", keys[-1]])
            raise BadRecipe(f"observers pattern '{pattern}' matches no tensor. Tensors: {shown}.")


def _union(one: Range, other: Range | None) -> Range:
    return one if other is None else Range(min(one.low, other.low), max(one.high, other.high))


def quantize(graph: GraphModule, ranges: Ranges, *, fold_weights: bool) -> tuple[GraphModule, tuple[str, ...]]:
    """Convert a captured graph to int8 with fixed scales; also returns the weighted layers left in float.

    ``fold_weights`` stores int8 weights (ExecuTorch, Core ML); without it weights stay float behind a
    quantize/dequantize pair, which is what LiteRT's converter takes.
    """
    quantizer = EdgeQuantizer(ranges.recipe, ranges)
    prepared = prepare_pt2e(_with_separate_biases(copy.deepcopy(graph)), quantizer)
    with torch.no_grad():
        _observe_weights(prepared)
        _round_parameters(prepared)
    converted: Any = convert_pt2e(prepared, fold_quantize=fold_weights)
    quantize_moved_values(converted)
    dequantize_for_each_reader(converted)
    return converted, tuple(quantizer.float_layers)


def _with_separate_biases(graph: GraphModule) -> GraphModule:
    """Give each use of a layer a bias of its own; changes the graph.

    The int32 step of a bias is input scale · weight scale, and a layer that is used twice has two input scales. With
    one bias for both, ExecuTorch stores it by the step of the first use and the second adds a wrong number.
    """
    layers = [node for node in graph.graph.nodes if node.target in WEIGHTED and len(node.args) > 2 and node.args[2]]
    taken: set[str] = set()
    for layer in layers:
        name = str(layer.args[2].target)
        if name in taken:
            value = attrgetter(name)(graph).detach().clone()
            name = f"bias_of_another_use_{len(taken)}"
            graph.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
            with graph.graph.inserting_before(layer):
                own = graph.graph.get_attr(name)
            own.meta = dict(layer.args[2].meta)
            layer.update_arg(2, own)
        taken.add(name)
    graph.recompile()
    return graph


def _observe_weights(prepared: GraphModule) -> None:
    """Let the weight observers see their weights. Activations need no image: their scales are fixed."""
    for node in prepared.graph.nodes:
        if node.op == "call_module" and node.all_input_nodes[0].op == "get_attr":
            weight = node.all_input_nodes[0].target
            prepared.get_submodule(node.target)(attrgetter(str(weight))(prepared))


def _round_parameters(prepared: GraphModule) -> None:
    """Put weights on their int8 grid and biases on the int32 grid that all runtimes store them on.

    Converters that get float parameters round them by their own rules (LiteRT's rounds halves away from zero, torch
    to even), and the graph itself computes with float biases. Rounded here, once, there is nothing left to differ.
    A bias step is input scale · weight scale.
    """
    for node in prepared.graph.nodes:
        if node.target not in WEIGHTED or node.args[1].op != "call_module":
            continue  # no layer, or one that stays in float
        source, weight = node.args[:2]
        scale = _scale(prepared, weight)
        values = attrgetter(str(weight.all_input_nodes[0].target))(prepared).data
        step = scale.view(-1, *[1] * (values.dim() - 1))
        values.copy_((values.double() / step).round().clamp(-QMAX, QMAX) * step)
        if len(node.args) > 2 and node.args[2] is not None:
            values = attrgetter(str(node.args[2].target))(prepared).data
            step = _scale(prepared, source) * scale
            values.copy_((values.double() / step).round() * step)


def _scale(prepared: GraphModule, observer: Node) -> torch.Tensor:
    module: Any = prepared.get_submodule(str(observer.target))
    scale: torch.Tensor = module.calculate_qparams()[0]
    return scale.double()
