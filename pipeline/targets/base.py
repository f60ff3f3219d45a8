"""What every target has in common: what it is given, what it answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge_apps.errors import install
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import FileManifest
from edge_apps.runtime.precisions import Precision

if TYPE_CHECKING:
    from torch import nn

    from calibration.ranges import QParams, Ranges


@dataclass(frozen=True)
class Source:
    """The one network that all targets lower: batch norms folded, in eval mode; ranges where int8 is asked for."""

    network: nn.Module
    ranges: Ranges | None

    @cached_property
    def required_ranges(self) -> Ranges:
        """The ranges, where a precision cannot do without."""
        if self.ranges is None:
            raise RuntimeError("int8 was planned without calibration")
        return self.ranges


@dataclass(frozen=True)
class Delegation:
    """What the delegate (XNNPACK) took of a file, as the runtime of this machine splits it.

    partitions: into how many pieces. outside: operators it did not take, by type. entrance: of those, what may stay
    outside because it only brings the bytes of the picture into form. mult_adds: of all convolution and linear
    layers in the file, constant ones (average pooling) included, and of products of two tensors (attention); inside: of
    those that the delegate took.
    """

    partitions: int
    outside: Counter[str]
    entrance: Counter[str]
    mult_adds: int
    inside: int

    @property
    def share(self) -> float:
        """Of the mult-adds, 0…1."""
        return self.inside / self.mult_adds if self.mult_adds else 0.0

    @property
    def left_out(self) -> Counter[str]:
        """Operators of the network that the delegate should have taken."""
        return self.outside - self.entrance


@dataclass(frozen=True)
class Census:
    """What a re-opened file consists of.

    operators: count by type, as the format names them. delegation: None where the format has no delegate on this
    machine. integer_layers and float_layers: convolution and linear layers that compute in int8, and that do not.
    activations: scale and zero point of every quantized activation. embedded: what the file says of itself, as JSON,
    where that is found out here; otherwise its runner says it.
    """

    operators: Counter[str]
    delegation: Delegation | None
    integer_layers: int
    float_layers: int
    activations: frozenset[QParams]
    embedded: str | None = None


class Target(Protocol):
    """One kind of device file."""

    @property
    def name(self) -> str:
        """As the user types it."""

    @property
    def suffix(self) -> str:
        """Of the file, with its dot."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that people type."""

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What it can be asked for."""

    @property
    def delegate(self) -> str | None:
        """What computes the file on a device, where that can be seen on this machine."""

    @property
    def summary(self) -> str:
        """One line: where such a file runs."""

    def missing(self) -> str | None:
        """What to install before this target can be used, or None."""

    def lower(self, source: Source, manifest: FileManifest, path: Path) -> tuple[str, ...]:
        """Write the file, ``manifest`` inside; returns the weighted layers left in float."""

    def census(self, content: Content) -> Census:
        """Count what a written file consists of."""


def missing_packages(*modules: str) -> str | None:
    """The pip command if a module that a target needs is not installed."""
    import importlib.util

    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    if not absent:
        return None
    return f"{', '.join(absent)} not installed: {install('export')}"
