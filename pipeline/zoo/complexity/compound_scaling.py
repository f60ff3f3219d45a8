"""Compound scaling: how EfficientNet grows depth, width and resolution together, and the search for its constants.

Paper: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
arXiv:1905.11946, §3.3. Mult-adds grow with depth · width² · resolution², so with

    depth = α^φ,  width = β^φ,  resolution = γ^φ,  α · β² · γ² ≈ 2,  α, β, γ ≥ 1

a network costs about 2^φ times as much. The constants are found by a grid search at φ = 1, where each point is a
network to train. Here the grid is listed with what each of its networks costs; the paper trained them and kept
(1.2, 1.1, 1.15). Units and channels come in whole numbers, so that a network costs other than α · β² · γ²: this one
2.57 times B0, not 1.92.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from pipeline.errors import BadInput

if TYPE_CHECKING:
    from pipeline.zoo.complexity.count import Cost

BASE = "efficientnet_b0"
GROWTH = 2.0
"""What α · β² · γ² is to be near."""


@dataclass(frozen=True, order=True)
class Scaling:
    """The three constants: depth α, width β, resolution γ (equation 3)."""

    depth: float
    width: float
    resolution: float

    @property
    def growth(self) -> float:
        """α · β² · γ²: about how many times the mult-adds grow at φ = 1."""
        return self.depth * self.width**2 * self.resolution**2

    def at(self, phi: float) -> Scaling:
        """The coefficients for a compound coefficient φ: α^φ, β^φ, γ^φ."""
        return Scaling(self.depth**phi, self.width**phi, self.resolution**phi)


PUBLISHED = Scaling(depth=1.2, width=1.1, resolution=1.15)


def feasible(step: float = 0.05, tolerance: float = 0.1) -> list[Scaling]:
    """Every grid point 1, 1 + step, … whose growth is within ``tolerance`` of 2, the nearest first.

    Raises:
        BadInput: a step outside 0.01 to 1, or a tolerance outside 0 to 1.
    """
    if not 0.01 <= step <= 1:
        raise BadInput(f"Grid step is {step}; allowed 0.01 to 1.")
    if not 0 <= tolerance <= 1:
        raise BadInput(f"Tolerance is {tolerance}; allowed 0 to 1.")
    most = GROWTH + tolerance
    depths, widths = _grid(step, most), _grid(step, most**0.5)
    points = (Scaling(*point) for point in product(depths, widths, widths))
    near = [point for point in points if _miss(point) <= tolerance]
    return sorted(near, key=lambda point: (_miss(point), point))


def cost(scaling: Scaling, phi: float = 1.0) -> Cost:
    """What B0 costs when scaled; counted on a network without weights, at the input size that γ^φ rounds to.

    Raises:
        BadInput: a coefficient or an input size that B0 does not take.
    """
    from pipeline import zoo
    from pipeline.zoo.complexity.count import count_model

    spec, grown = zoo.get(BASE), scaling.at(phi)
    size = round(spec.input_size * grown.resolution)
    return count_model(spec, {"depth": grown.depth, "width": grown.width}, size)


def _grid(step: float, most: float) -> list[float]:
    """1, 1 + step, … up to ``most``, without the drift of repeated addition."""
    return [round(1 + index * step, 9) for index in range(int((most - 1) / step + 1e-9) + 1)]


def _miss(point: Scaling) -> float:
    """How far from 2; rounded, so that 1.9 is within 0.1 of it."""
    return round(abs(point.growth - GROWTH), 9)
