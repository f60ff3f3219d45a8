"""What a network costs: parameters, mult-adds, size, peak activation."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Cost:
    """Counted, not measured.

    params: every learnable tensor. mult_adds: multiply-accumulates (one multiply and one add are 1) of convolution
    and linear layers for one image; bias, batch norm, pooling and activations count nothing. size_mb: params × 4
    bytes, 10^6 bytes to the MB. peak_activation: bytes at 16 bit of the largest tensor that one unit of the network
    (a child of ``features``) hands to the next; the inside of a unit can be computed in slices (MobileNetV2, §5.1).
    """

    params: int
    mult_adds: int
    size_mb: float
    peak_activation: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def count(network: nn.Module, height: int, width: int) -> Cost:
    """Count a network for one ``[1, 3, height, width]`` image, on a copy; nothing is computed (meta tensors)."""
    mult_adds = 0
    handed_on = [0]

    def layer(module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal mult_adds
        if isinstance(module, nn.Conv2d):
            per_output = module.weight.shape[1] * module.weight.shape[2] * module.weight.shape[3]
        else:
            assert isinstance(module, nn.Linear)
            per_output = module.in_features
        mult_adds += output.numel() * per_output

    def unit(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        handed_on.append(output.numel())

    meta = copy.deepcopy(network).to("meta").eval()
    features = getattr(meta, "features", meta)
    for module in meta.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(layer)
    for child in features.children():
        child.register_forward_hook(unit)
    meta(torch.empty(1, 3, height, width, device="meta"))
    params = sum(p.numel() for p in meta.parameters())
    return Cost(params, mult_adds, round(params * 4 / 1e6, 3), 2 * max(handed_on))
