"""What a network costs, counted layer by layer: parameters, mult-adds, size, peak activation."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from pipeline.zoo.spec import ModelSpec

Shape = tuple[int, ...]

BYTES_PER_PARAMETER = 4
BYTES_PER_ACTIVATION = 2


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer; ``output`` is without the batch, ``params`` are ``weights`` and biases."""

    path: str
    kind: str
    output: Shape
    weights: int
    params: int
    mult_adds: int


@dataclass(frozen=True)
class Unit:
    """One step of the network: a child of it, or of its containers (``nn.Sequential`` and module lists).

    An inverted residual, an inception module or a fire module is one unit, whatever is inside. A step that holds no
    layer and keeps the shape (batch norm, activation, dropout) belongs to the unit before it. ``params`` are all
    that the unit learns, ``mult_adds`` those of its layers.
    """

    path: str
    kind: str
    output: Shape
    params: int
    mult_adds: int


@dataclass(frozen=True)
class Cost:
    """Counted, not measured.

    params: every learnable tensor. mult_adds: multiply-accumulates (one multiply and one add are 1) of convolution
    and linear layers for one image; bias, batch norm, pooling and activations count nothing. ``layers`` and
    ``units`` are in the order in which they are computed.
    """

    params: int
    mult_adds: int
    layers: tuple[Layer, ...]
    units: tuple[Unit, ...]

    @property
    def size_mb(self) -> float:
        """Of the parameters in float32; 10^6 bytes to the MB."""
        return round(self.params * BYTES_PER_PARAMETER / 1e6, 3)

    @property
    def weights(self) -> int:
        """Of convolution and linear layers: parameters without biases and batch norms."""
        return sum(layer.weights for layer in self.layers)

    @property
    def peak_activation(self) -> int:
        """Bytes at 16 bit of the largest tensor that one unit hands to the next, the first unit's left out.

        The rule of Sandler et al. (MobileNetV2, 2018), table 3: what a shortcut or a branch may still need has to
        be in memory; the inside of a unit can be computed in slices, and so can the first convolution together with
        the unit after it (§5.1).
        """
        return _largest(self.units[1:] or self.units)

    @property
    def peak_after_first_resolution(self) -> int:
        """The same without the tensors at the first unit's resolution, which the paper's first version left out."""
        return _largest([unit for unit in self.units if unit.output[1:] != self.units[0].output[1:]] or self.units)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Weights and mult-adds of each kind of layer, most mult-adds first."""
        kinds: dict[str, tuple[int, int]] = {}
        for layer in self.layers:
            weights, mult_adds = kinds.get(layer.kind, (0, 0))
            kinds[layer.kind] = (weights + layer.weights, mult_adds + layer.mult_adds)
        return dict(sorted(kinds.items(), key=lambda item: -item[1][1]))

    def shares(self, layer: Layer) -> dict[str, float]:
        """What a layer has of all parameters and of all mult-adds, 0 to 1."""
        return {"params_share": layer.params / self.params, "mult_adds_share": layer.mult_adds / self.mult_adds}

    def as_dict(self) -> dict[str, Any]:
        """The totals, for JSON."""
        return {
            "params": self.params,
            "mult_adds": self.mult_adds,
            "size_mb": self.size_mb,
            "peak_activation": self.peak_activation,
        }


def count(network: nn.Module, height: int, width: int, channels: int = 3) -> Cost:
    """Count a network for one ``[1, channels, height, width]`` image, on a copy; nothing is computed (meta tensors)."""
    meta = copy.deepcopy(network).to("meta").eval()
    layers = _watch((path, module) for path, module in meta.named_modules() if _is_layer(module))
    steps = _watch(_steps(meta))
    meta(torch.empty(1, channels, height, width, device="meta"))
    counted = tuple(_layer(called) for called in layers.values())
    return Cost(
        params=_params(meta),
        mult_adds=sum(layer.mult_adds for layer in counted),
        layers=counted,
        units=tuple(_units(steps.values(), counted)),
    )


def count_model(
    spec: ModelSpec,
    options: Mapping[str, Any] | None = None,
    input_size: int | None = None,
    classes: int | None = None,
) -> Cost:
    """Count a model of the zoo; what is not given is the model's own. ``BadInput`` where it cannot be so."""
    chosen = options or {}
    size = spec.check_input(spec.input_size if input_size is None else input_size, chosen)
    with torch.device("meta"):
        network = spec.build(classes, **chosen)
    return count(network, size, size)


@dataclass(frozen=True)
class _Called:
    """A module and the shapes that it handed out, without the batch, one for each call."""

    path: str
    module: nn.Module
    outputs: list[Shape]


def _watch(modules: Iterable[tuple[str, nn.Module]]) -> dict[str, _Called]:
    """Note what these modules hand out, in the order in which they do."""
    called: dict[str, _Called] = {}

    def watch(path: str, module: nn.Module) -> None:
        def note(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            called.setdefault(path, _Called(path, module, [])).outputs.append(tuple(output.shape[1:]))

        module.register_forward_hook(note)

    for path, module in modules:
        watch(path, module)
    return called


def _steps(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Children, those of plain containers instead of the container; a block derived from one is no container."""
    for name, child in network.named_children():
        path = f"{prefix}{name}"
        if type(child) in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
            yield from _steps(child, f"{path}.")
        else:
            yield path, child


def _layer(called: _Called) -> Layer:
    module, weight = called.module, called.module.weight
    assert isinstance(weight, torch.Tensor)
    return Layer(
        path=called.path,
        kind=_kind(module),
        output=called.outputs[-1],
        weights=weight.numel(),
        params=_params(module),
        mult_adds=sum(math.prod(output) * math.prod(weight.shape[1:]) for output in called.outputs),
    )


def _units(steps: Iterable[_Called], layers: tuple[Layer, ...]) -> list[Unit]:
    units: list[Unit] = []
    for step in steps:
        inside = [layer for layer in layers if f"{layer.path}.".startswith(f"{step.path}.")]
        unit = Unit(
            path=step.path,
            kind=inside[0].kind if _is_layer(step.module) else type(step.module).__name__,
            output=step.outputs[-1],
            params=_params(step.module),
            mult_adds=sum(layer.mult_adds for layer in inside),
        )
        if units and not inside and unit.output == units[-1].output:
            before = units.pop()
            unit = replace(before, params=before.params + unit.params)
        units.append(unit)
    return units


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.Linear)


def _kind(module: nn.Module) -> str:
    if not isinstance(module, nn.Conv2d):
        return "linear"
    kernel = "×".join(map(str, module.kernel_size))
    if module.groups == 1:
        return f"{kernel} conv"
    if module.groups == module.in_channels:
        return f"{kernel} depthwise conv"
    return f"{kernel} conv, {module.groups} groups"


def _params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _largest(units: Iterable[Unit]) -> int:
    return BYTES_PER_ACTIVATION * max(math.prod(unit.output) for unit in units)
