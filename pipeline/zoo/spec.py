"""What is known of a model without loading torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import BadInput

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Option:
    """One hyperparameter that the paper names, and the values it may take."""

    default: float | int
    minimum: float | int
    maximum: float | int
    meaning: str

    def check(self, name: str, value: Any) -> float | int:
        """The value as the default's type; ``BadInput`` outside minimum…maximum."""
        kind = type(self.default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or kind(value) != value:
            raise BadInput(f"Option {name} is {value!r}; expected a {kind.__name__}.")
        if not self.minimum <= value <= self.maximum:
            raise BadInput(f"Option {name} is {value}; allowed {self.minimum} to {self.maximum}.")
        return kind(value)


@dataclass(frozen=True)
class ModelSpec:
    """A network by name: how to build it, and where it comes from.

    ``builder(classes=K, **options)`` imports torch when called. ``stride`` is the network's total downsampling: an
    input side smaller than this leaves nothing to classify.
    """

    name: str
    title: str
    paper: str
    builder: Callable[..., nn.Module]
    stride: int
    options: Mapping[str, Option] = field(default_factory=dict)
    input_size: int = 224
    classes: int = 1000

    def with_defaults(self, options: Mapping[str, Any]) -> dict[str, float | int]:
        """All options, the given ones checked; unknown names are refused."""
        for name in options:
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise BadInput(f"Model '{self.name}' has no option '{name}'. Known: {known}.")
        return {name: option.check(name, options.get(name, option.default)) for name, option in self.options.items()}

    def build(self, classes: int | None = None, **options: Any) -> nn.Module:
        """The network in training mode, randomly initialised, taking normalised float32 ``[N, 3, H, W]``."""
        count = self.classes if classes is None else classes
        if count < 1:
            raise BadInput(f"Class count is {count}; at least 1 is needed.")
        return self.builder(classes=count, **self.with_defaults(options))

    def check_input(self, size: int) -> int:
        """An input side that the network can take, or ``BadInput``."""
        if not self.stride <= size <= 2048:
            raise BadInput(f"Input size is {size}; '{self.name}' takes {self.stride} to 2048.")
        return size
