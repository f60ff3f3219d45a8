"""How one tensor's range is chosen from what flows through it: min-max, moving average, percentile, MSE, entropy.

An observer is the identity in the forward pass. It sees every calibration batch once; ``range()`` is its answer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torchao.quantization.pt2e import ObserverBase

from calibration.errors import BadCalibration
from calibration.observers.divergence import Histogram
from calibration.ranges import QMAX, QMIN, Range
from calibration.recipe import Recipe

BINS = 8192
"""Bins of a histogram over [−reach, reach]; a ReLU's output uses a quarter of them at least, eight for a level."""

FINEST_REACH = 2.0**-16
"""Where a histogram's reach begins: that of the smallest scale, 2^-24."""

SHARES = torch.linspace(1.0, 0.1, 46, dtype=torch.float64)
"""Of the observed end of a range, for those observers that search."""

MOST_AT_ONCE = 2**23
"""Values given to ``torch.histc`` at a time: it counts in float32, which stops counting at 2^24."""


FIXED = "fixed"
"""The name, beside those of the recipe, of what needs no observer."""


class RangeObserver(ObserverBase):
    """Base: refuses NaN, counts what it saw, and carries its name in recipes and the key of the tensor it watches."""

    def __init__(self) -> None:
        super().__init__(dtype=torch.int8)
        self.name = self.key = ""
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Look at a batch, hand it on unchanged."""
        values = x.detach().float()
        low, high = (float(v) for v in torch.aminmax(values))
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            raise BadCalibration("An activation is NaN or infinite during calibration: check the weights and the data.")
        self.update(values, low, high)
        self.seen += values.numel()
        return x

    @abstractmethod
    def update(self, values: torch.Tensor, low: float, high: float) -> None:
        """Take in a batch whose smallest and largest values are known."""

    @abstractmethod
    def range(self) -> Range:
        """The chosen interval."""

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What PT2E's convert asks for: scale, zero point."""
        scale, zero_point = self.range().qparams()
        return torch.tensor([scale]), torch.tensor([zero_point], dtype=torch.int64)


class MinMax(RangeObserver):
    """Everything that was seen, outliers included."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = 0.0, 0.0

    def update(self, values: torch.Tensor, low: float, high: float) -> None:
        del values
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self) -> Range:
        return Range(self.low, self.high)


class MovingAverage(RangeObserver):
    """Exponential average over batches of each batch's minimum and maximum (Jacob et al. 2018, §3.1)."""

    def __init__(self, averaging: float) -> None:
        super().__init__()
        self.averaging = averaging
        self.low, self.high = 0.0, 0.0

    def update(self, values: torch.Tensor, low: float, high: float) -> None:
        del values
        if self.seen == 0:
            self.low, self.high = low, high
        else:
            self.low += self.averaging * (low - self.low)
            self.high += self.averaging * (high - self.high)

    def range(self) -> Range:
        return Range(min(self.low, 0.0), max(self.high, 0.0))


class _Histogram(RangeObserver):
    """Counts over [−reach, reach); where a value lies outside, the reach doubles and bins merge in pairs, exactly.

    The reach is a power of two whatever came first, so the counts depend on the pictures and not on their order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reach = FINEST_REACH
        self.counts = torch.zeros(BINS, dtype=torch.float64)
        self.low, self.high = 0.0, 0.0

    def update(self, values: torch.Tensor, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)
        while self.reach <= max(-low, high):
            self._double()
        for part in torch.split(values.flatten(), MOST_AT_ONCE):
            self.counts += torch.histc(part, BINS, -self.reach, self.reach).double()

    def _double(self) -> None:
        quarter = BINS // 4
        merged = self.counts.view(-1, 2).sum(1)
        self.counts = torch.zeros_like(self.counts)
        self.counts[quarter : quarter + BINS // 2] = merged
        self.reach *= 2

    def centres(self) -> torch.Tensor:
        """The middle of each bin."""
        width = 2 * self.reach / BINS
        return -self.reach + width * (torch.arange(BINS, dtype=torch.float64) + 0.5)


class Percentile(_Histogram):
    """The interval that leaves out (100 − p) % of the values, half at each end."""

    def __init__(self, percentile: float) -> None:
        super().__init__()
        self.percentile = percentile

    def range(self) -> Range:
        share = self.counts.cumsum(0) / self.counts.sum()
        tail = (100 - self.percentile) / 200
        width = 2 * self.reach / BINS
        first = int(torch.searchsorted(share, tail, right=True))
        last = int(torch.searchsorted(share, 1 - tail))
        low, high = -self.reach + width * first, -self.reach + width * (last + 1)
        return Range(max(self.low, min(low, 0.0)), min(self.high, max(high, 0.0)))


class _Search(_Histogram):
    """The interval that loses the least, of candidates that shrink each end in steps of 2 % down to a tenth.

    The two ends are searched in turn (from min-max, the upper one first), twice, which finds the best pair of the grid
    for the one-sided tensors that follow a ReLU and a very good one for the others. Of equals the widest wins.
    """

    @abstractmethod
    def losses(self) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """What candidates lose, float64 ``[K]``, by their lower and upper ends ``[K]``."""

    def range(self) -> Range:
        losses = self.losses()
        low, high = self.low, self.high
        for _ in range(2):
            if self.high > 0:
                highs = self.high * SHARES
                high = float(highs[losses(torch.full_like(highs, low), highs).argmin()])
            if self.low < 0:
                lows = self.low * SHARES
                low = float(lows[losses(lows, torch.full_like(lows, high)).argmin()])
        return Range(low, high)


class MeanSquaredError(_Search):
    """The interval whose int8 rounding and clipping lose the least squared error over the histogram."""

    def losses(self) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        used = self.counts > 0
        centres, counts = self.centres()[used], self.counts[used]

        def squared_error(lows: torch.Tensor, highs: torch.Tensor) -> torch.Tensor:
            scale, zero_point = (column[:, None] for column in _grids(lows, highs))
            quantized = ((centres / scale).round() + zero_point).clamp(QMIN, QMAX)
            return (((quantized - zero_point) * scale - centres).square() * counts).sum(1)

        return squared_error


class Entropy(_Search):
    """The interval whose int8 form keeps the most of the histogram's shape (``calibration.observers.divergence``).

    Migacz, S. (2017). 8-bit Inference with TensorRT. GTC 2017, slides on entropy calibration. Deviations:

    - Asymmetric: levels are those of the range's own scale and zero point, all 256 of them for a ReLU's output, rounded
      to the nearest; the slides cut absolute values into 128 equal parts.
    - Exact zeros are left out. Every range holds 0 exactly, so none can lose them; counted, what a ReLU zeroed would
      be averaged with small values and press for fine steps, whatever they clip. (TensorRT's tools overwrite the
      first bin for that reason.)
    - Not every bin's edge is a candidate, but what ``MeanSquaredError`` tries too.

    No candidate is narrower than 256 bins, as in the slides: below that every level has a bin of its own, and the
    coarseness of the histogram would pass for that of int8.
    """

    def __init__(self) -> None:
        super().__init__()
        self.zeros = 0

    def update(self, values: torch.Tensor, low: float, high: float) -> None:
        super().update(values, low, high)
        self.zeros += values.numel() - int(torch.count_nonzero(values))

    def losses(self) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        counts = self.counts.clone()
        counts[BINS // 2] -= self.zeros  # the bin that begins with 0
        histogram = Histogram.of(self.centres(), counts)
        narrowest = (QMAX - QMIN + 1) * 2 * self.reach / BINS

        def divergence(lows: torch.Tensor, highs: torch.Tensor) -> torch.Tensor:
            return torch.where(highs - lows < narrowest, torch.inf, histogram.divergence(*_grids(lows, highs)))

        return divergence


def _grids(lows: torch.Tensor, highs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and zero points, float64 ``[K]``, as ``Range.qparams`` has them but for float32."""
    scales = ((highs - lows) / (QMAX - QMIN)).clamp(min=2**-24)
    return scales, QMIN - (lows / scales).round()


def make_observer(recipe: Recipe, key: str, **_specification: Any) -> RangeObserver:
    """A fresh observer of the tensor ``key``, as the recipe says.

    torchao hands over the fields of its own specification too; the recipe has already decided them.
    """
    observer: RangeObserver
    name = recipe.observer_of(key)
    match name:
        case "minmax":
            observer = MinMax()
        case "moving-average":
            observer = MovingAverage(recipe.averaging)
        case "percentile":
            observer = Percentile(recipe.percentile)
        case "mse":
            observer = MeanSquaredError()
        case "entropy":
            observer = Entropy()
    observer.name, observer.key = name, key
    return observer


class Fixed(RangeObserver):
    """Of a tensor whose range follows from its operator."""

    def __init__(self, known: Range) -> None:
        super().__init__()
        self.known = known

    def update(self, values: torch.Tensor, low: float, high: float) -> None:
        del values, low, high

    def range(self) -> Range:
        return self.known

    @classmethod
    def make(cls, key: str, known: Range, **_specification: Any) -> Fixed:
        """As torchao calls it."""
        observer = cls(known)
        observer.name, observer.key = FIXED, key
        return observer


class Together(nn.Module):
    """Several observers of one tensor."""

    def __init__(self, observers: Sequence[RangeObserver]) -> None:
        super().__init__()
        self.observers = nn.ModuleList(observers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Let each of them look, and hand the batch on unchanged."""
        for observer in self.observers:
            observer(x)
        return x


class Bystander(ObserverBase):
    """Stands where values only pass through: its neighbour watches them, and it hands them on."""

    def __init__(self) -> None:
        super().__init__(dtype=torch.int8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same tensor."""
        return x

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Nobody asks: scales come from ranges."""
        raise NotImplementedError

    @classmethod
    def make(cls, **_specification: Any) -> Bystander:
        """As torchao calls it."""
        return cls()
