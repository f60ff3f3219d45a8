"""What is known of a model without loading torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import BadInput

if TYPE_CHECKING:
    from torch import nn

Value = float | int | bool | str
"""What an option may hold; JSON keeps it as it is."""

LARGEST_INPUT = 2048


def shown(value: Value) -> str:
    """Return a value as a person says it."""
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


KINDS = {bool: "an answer", int: "a whole number", float: "a number", str: "a word"}


@dataclass(frozen=True)
class Option:
    """One hyperparameter that the paper names, and the values it may take.

    Numbers lie in minimum…maximum; with ``choices``, of numbers or of words, only those are allowed. A switch is a
    bool.
    """

    default: Value
    meaning: str
    minimum: float | int = -math.inf
    maximum: float | int = math.inf
    choices: tuple[Value, ...] = ()

    def check(self, name: str, value: Any) -> Value:
        """The value as the default's type; ``BadInput`` where it is not allowed."""
        kind = type(self.default)
        if not self._is(kind, value):
            raise BadInput(f"Option `{name}` is {value!r}; it takes {KINDS[kind]}, {self.allowed()}.")
        typed: Value = kind(value)
        if not self._allows(typed):
            raise BadInput(f"Option `{name}` is {typed}; allowed {self.allowed()}.")
        return typed

    def allowed(self) -> str:
        """The allowed values in words, as errors and ``--help`` say them."""
        if isinstance(self.default, bool):
            return "yes or no"
        if self.choices:
            return ", ".join(str(choice) for choice in self.choices)
        return f"{self.minimum} to {self.maximum}"

    @staticmethod
    def _is(kind: type, value: Any) -> bool:
        if kind in (bool, str):
            return isinstance(value, kind)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return number and kind(value) == value

    def _allows(self, value: Value) -> bool:
        if self.choices:
            return value in self.choices
        return isinstance(value, (bool, str)) or self.minimum <= value <= self.maximum


@dataclass(frozen=True)
class Figure:
    """What one configuration must count to, and what was published of it: a row of ``pipeline models --check``.

    ``params`` is exact. ``mult_adds`` is in millions, as text with as many decimals as are to be held
    (``"300.8"``, ``"1,814"``). The published figures are text exactly as printed (``"3.4 M"``, ``"300 M"``,
    ``"0.39 B"``), empty where there is none; ``explanation`` says why a count differs from them by more than the
    rounding of what was printed. ``classes`` and ``input_size`` default to the model's own.
    """

    params: int | None = None
    mult_adds: str = ""
    options: Mapping[str, Value] = field(default_factory=dict)
    input_size: int | None = None
    classes: int | None = None
    published_params: str = ""
    published_mult_adds: str = ""
    source: str = ""
    explanation: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """A network by name: how to build it, and where it comes from.

    ``builder(classes=K, **options)`` imports torch when called. ``introduced`` says in one to three sentences what
    the paper brought. ``smallest`` is the least input side that leaves something to classify: a number, or a
    function of the options. ``aliases`` are other names that people type.
    """

    name: str
    title: str
    paper: str
    introduced: str
    builder: Callable[..., nn.Module]
    smallest: int | Callable[[Mapping[str, Value]], int]
    options: Mapping[str, Option] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    aliases: tuple[str, ...] = ()
    input_size: int = 224
    classes: int = 1000

    def with_defaults(self, options: Mapping[str, Any]) -> dict[str, Value]:
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

    def smallest_input(self, options: Mapping[str, Value]) -> int:
        """The least input side with these options (all of them, as ``with_defaults`` gives them)."""
        return self.smallest if isinstance(self.smallest, int) else self.smallest(options)

    def check_input(self, size: int, options: Mapping[str, Any]) -> int:
        """An input side that the network can take with these options, or ``BadInput``."""
        least = self.smallest_input(self.with_defaults(options))
        if not least <= size <= LARGEST_INPUT:
            raise BadInput(f"Input size is {size}; '{self.name}' takes {least} to {LARGEST_INPUT}.")
        return size
