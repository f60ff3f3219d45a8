"""A kind of input from outside."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Kind(NamedTuple):
    """``corpus`` makes whole inputs, ``damage`` a damaged one of them, ``read`` reads it as the programs do.

    ``read`` may use a folder of its own. It returns, or raises an ``EdgeError``; anything else is a fault.
    """

    corpus: Callable[[], list[bytes]]
    damage: Callable[[random.Random, list[bytes]], bytes]
    read: Callable[[bytes, Path], None]
