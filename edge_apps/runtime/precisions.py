"""The precisions of exported files."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "int8", "int8-weights"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
