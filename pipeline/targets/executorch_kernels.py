"""Whether ExecuTorch's runtime has a kernel for every operator that a program calls outside its delegate.

A program that calls another is written without complaint, and fails to load on every device.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.compat.executorch import registered_kernels

CHECKED = "aten::"
"""Kernels of other namespaces are registered by libraries that are loaded later."""


def check_kernels(operators: Iterable[Any]) -> None:
    """Look up the operators of a program's plan, each with a ``name`` and an ``overload``.

    Raises:
        NotImplementedError: the first that has no kernel, as ``Missing kernel: aten::sort.values``.
    """
    known = registered_kernels()
    for operator in operators:
        name = f"{operator.name}.{operator.overload}".removesuffix(".")
        if known and name.startswith(CHECKED) and name not in known:
            raise NotImplementedError(f"Missing kernel: {name}")
