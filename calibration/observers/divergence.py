"""How much of a histogram's shape an int8 grid loses: Kullback-Leibler divergence."""

from __future__ import annotations

from typing import NamedTuple

import torch

from calibration.ranges import QMAX, QMIN


class Histogram(NamedTuple):
    """The B bins that hold values: their middles in ascending order, float64 ``[B]``, and running sums ``[B + 1]``.

    What lies between two bins is then one difference, whatever lies there: a candidate costs its 256 levels, not B.
    """

    centres: torch.Tensor
    counts: torch.Tensor
    nlogn: torch.Tensor

    @classmethod
    def of(cls, centres: torch.Tensor, counts: torch.Tensor) -> Histogram:
        """From float64 ``[bins]`` each; bins without a value are dropped."""
        used = counts > 0
        centres, counts = centres[used], counts[used]
        return cls(centres, _running(counts), _running(_nlogn(counts)))

    def divergence(self, scales: torch.Tensor, zero_points: torch.Tensor) -> torch.Tensor:
        """Σ p log(p / q) in nats for each of K int8 grids, float64 ``[K]``; infinite where a grid clips everything.

        p is the histogram within the grid, with what is clipped added to its outermost bins there. q is what int8 can
        say of the values within: every level's count, spread evenly over those bins of the level that hold values.
        What is clipped is in p alone: that is what clipping costs. Both are above 0 in the same bins, so that nothing
        needs smoothing.
        """
        levels = torch.arange(QMIN, QMAX + 2, dtype=torch.float64) - 0.5
        starts = torch.searchsorted(self.centres, (levels - zero_points[:, None]) * scales[:, None])  # [K, 257]
        held, bins = self.counts[starts].diff(), starts.diff()  # by each level
        spread = held / bins.clamp(min=1)

        begin, end = starts[:, 0], starts[:, -1]
        within = self.counts[end] - self.counts[begin]
        clips_all = within == 0
        begin, last = begin.clamp(max=len(self.centres) - 1), (end - 1).clamp(min=0)
        below, above = self.counts[begin], self.counts[-1] - self.counts[end]

        # Σ p log p and Σ p log q, both times the total.
        own = self.nlogn[end] - self.nlogn[begin]
        outermost = self.counts[begin + 1] - below
        own = own + _nlogn(outermost + below) - _nlogn(outermost)
        outermost = self.counts[last + 1] - self.counts[last] + torch.where(begin == last, below, 0.0)
        own = own + _nlogn(outermost + above) - _nlogn(outermost)

        occupied = (bins > 0).int()
        lowest, highest = occupied.argmax(1), QMAX - QMIN - occupied.flip(1).argmax(1)
        said = torch.special.xlogy(held, spread).sum(1)
        said = said + torch.special.xlogy(below, spread.gather(1, lowest[:, None])[:, 0])
        said = said + torch.special.xlogy(above, spread.gather(1, highest[:, None])[:, 0])

        total = self.counts[-1]
        return torch.where(clips_all, torch.inf, (own - said) / total + (within / total).log())


def _nlogn(counts: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = torch.special.xlogy(counts, counts)
    return product


def _running(values: torch.Tensor) -> torch.Tensor:
    return torch.cat((torch.zeros(1, dtype=values.dtype), values.cumsum(0)))
