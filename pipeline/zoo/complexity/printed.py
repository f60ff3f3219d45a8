"""What a printed figure says, and what its rounding leaves open."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

UNITS = {"": 0, "%": 0, "×": 0, "C²": 0, "K": 3, "M": 6, "MB": 6, "B": 9}
"""Powers of ten."""
NUMBER = r"[\d,]+(?:\.\d+)?"
FIGURE = re.compile(
    rf"(?:around |about |~)?(?P<low>{NUMBER})(?:[–-](?P<high>{NUMBER}))? ?(?P<unit>{'|'.join(map(re.escape, UNITS))})"
)


@dataclass(frozen=True)
class Printed:
    """The numbers that are printed so: ``low`` to ``high``, both included."""

    low: Decimal
    high: Decimal

    def covers(self, value: float) -> bool:
        """Whether the value may have been printed so."""
        return self.low <= Decimal(str(value)) <= self.high


def parse(text: str) -> Printed:
    """Read ``"3.4 M"``, ``"1,550 M"``, ``"0.39 B"``, ``"around 60 M"``, ``"137–140 M"`` or ``"74.59 %"``.

    A printed number stands for everything within half a unit of its last digit: ``"300 M"`` for 299.5 M to 300.5 M.
    "Around" widens nothing: a count that lies further off needs an explanation. Raises ``ValueError`` for any other
    text.
    """
    found = FIGURE.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text}' is not a printed figure such as '3.4 M', '1,550 M', '0.39 B' or '137–140 M'.")
    scale = Decimal(10) ** UNITS[found["unit"]]
    low, low_half = _number(found["low"])
    high, high_half = _number(found["high"] or found["low"])
    return Printed((low - low_half) * scale, (high + high_half) * scale)


def _number(digits: str) -> tuple[Decimal, Decimal]:
    """The number, and half a unit of its last digit."""
    number = Decimal(digits.replace(",", ""))
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    return number, Decimal(10) ** exponent / 2
