"""What the target needs of ai-edge-litert beyond its documented interface."""

from __future__ import annotations

from typing import Any

DELEGATE = "DELEGATE"
"""The name of a delegate's partition among the operators of an interpreter."""


def operators_of(interpreter: Any) -> list[dict[str, Any]]:
    """Return the operators of an interpreter in the library's words: ``op_name``, ``inputs`` and ``outputs``."""
    operators: list[dict[str, Any]] = interpreter._get_ops_details()
    return operators


def partition_outputs(interpreter: Any) -> list[set[int]]:
    """Return, for each partition of the delegate, the indices of the tensors that it gives.

    With delegates in place the interpreter lists the file's operators, and then one operator per partition.
    """
    return [set(map(int, each["outputs"])) for each in operators_of(interpreter) if each["op_name"] == DELEGATE]
