"""How one tensor's range is chosen from what flows through it: min-max, moving average, percentile, MSE.

An observer is the identity in the forward pass. It sees every calibration batch once; ``range()`` is its answer.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torchao.quantization.pt2e.observer import ObserverBase

from calibration.errors import BadCalibration
from calibration.ranges import QMAX, QMIN, Range
from calibration.recipe import Recipe

BINS = 4096
"""Bins of a histogram over [−reach, reach]; a ReLU's output uses half of them."""

MOST_AT_ONCE = 2**23
"""Values given to ``torch.histc`` at a time: it counts in float32, which stops counting at 2^24."""


class RangeObserver(ObserverBase):
    """Base: refuses NaN, counts what it saw, and carries the key of the tensor that it watches."""

    def __init__(self) -> None:
        super().__init__(dtype=torch.int8)
        self.key = ""
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
    """Counts over [−reach, reach]; where a value lies outside, the reach doubles and bins merge in pairs, exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.reach = 0.0
        self.counts = torch.zeros(BINS, dtype=torch.float64)
        self.low, self.high = 0.0, 0.0

    def update(self, values: torch.Tensor, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)
        extent = max(-low, high)
        if self.reach == 0.0:
            self.reach = extent
        while self.reach < extent:
            self._double()
        if self.reach > 0.0:
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
        if self.reach == 0.0:
            return Range(0.0, 0.0)
        share = self.counts.cumsum(0) / self.counts.sum()
        tail = (100 - self.percentile) / 200
        width = 2 * self.reach / BINS
        first = int(torch.searchsorted(share, tail, right=True))
        last = int(torch.searchsorted(share, 1 - tail))
        low, high = -self.reach + width * first, -self.reach + width * (last + 1)
        return Range(max(self.low, min(low, 0.0)), min(self.high, max(high, 0.0)))


class MeanSquaredError(_Histogram):
    """The interval whose int8 rounding and clipping lose the least squared error over the histogram.

    Candidates shrink each end of the observed interval in steps of 2 % down to a tenth; the two ends are searched in
    turn (min-max first), twice, which finds the best pair of the grid for the one-sided tensors that follow a ReLU
    and a very good one for the others.
    """

    def range(self) -> Range:
        if self.reach == 0.0:
            return Range(0.0, 0.0)
        used = self.counts > 0
        centres, counts = self.centres()[used], self.counts[used]
        low, high = self.low, self.high
        shares = torch.linspace(1.0, 0.1, 46, dtype=torch.float64)
        for _ in range(2):
            if self.high > 0:
                high = _best(centres, counts, torch.full_like(shares, low), self.high * shares)[1]
            if self.low < 0:
                low = _best(centres, counts, self.low * shares, torch.full_like(shares, high))[0]
        return Range(low, high)


def _best(centres: torch.Tensor, counts: torch.Tensor, lows: torch.Tensor, highs: torch.Tensor) -> tuple[float, float]:
    scale = ((highs - lows) / (QMAX - QMIN)).clamp(min=2**-24)[:, None]
    zero_point = QMIN - (lows[:, None] / scale).round()
    quantized = ((centres / scale).round() + zero_point).clamp(QMIN, QMAX)
    error = (((quantized - zero_point) * scale - centres).square() * counts).sum(1)
    best = int(error.argmin())
    return float(lows[best]), float(highs[best])


def make_observer(recipe: Recipe, key: str, **_specification: Any) -> RangeObserver:
    """A fresh observer of the tensor ``key``, as the recipe says.

    torchao hands over the fields of its own specification too; the recipe has already decided them.
    """
    observer: RangeObserver
    match recipe.observer:
        case "minmax":
            observer = MinMax()
        case "moving-average":
            observer = MovingAverage(recipe.averaging)
        case "percentile":
            observer = Percentile(recipe.percentile)
        case "mse":
            observer = MeanSquaredError()
    observer.key = key
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
        observer.key = key
        return observer


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
