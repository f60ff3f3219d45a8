"""The protocol of a PTQ algorithm: what it is given, when it runs, what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import torch
from torch.fx import GraphModule

from calibration.algorithms.repairs import Repairs
from calibration.ranges import Ranges


class Phase(IntEnum):
    """When an algorithm runs, in this order.

    SCALING changes float weights so that the float network computes the same; ranges are found again afterwards.
    ROUNDING decides how weights are rounded with the ranges that were found. CORRECTION removes what the rounded
    weights change in a layer's output.
    """

    SCALING = 1
    ROUNDING = 2
    CORRECTION = 3


class Network(Protocol):
    """A network that can be captured as often as it is needed."""

    def graph(self) -> GraphModule:
        """Return a new graph of it, which the caller may change."""


@dataclass(frozen=True)
class AlgorithmInput:
    """What an algorithm works on.

    network: with the new values of all earlier algorithms. unrounded: with those of the SCALING phase alone. ranges:
    those of ``unrounded``. batches: calibration images float32 ``[N, 3, H, W]``, 0…255.
    """

    network: Network
    unrounded: Network
    ranges: Ranges
    batches: Sequence[torch.Tensor]


class Algorithm(Protocol):
    """One PTQ algorithm. Its file defines it as ``ALGORITHM``."""

    @property
    def name(self) -> str:
        """Return the name in a recipe."""

    @property
    def phase(self) -> Phase:
        """Return when it runs."""

    def apply(self, given: AlgorithmInput) -> Repairs:
        """Return new values for tensors of the network."""
