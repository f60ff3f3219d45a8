"""Why ExecuTorch did not load a program, in words, and what helps."""

from __future__ import annotations

import re

NAMES = {
    0x01: "Internal",
    0x02: "InvalidState",
    0x10: "NotSupported",
    0x11: "NotImplemented",
    0x12: "InvalidArgument",
    0x13: "InvalidType",
    0x14: "OperatorMissing",
    0x20: "NotFound",
    0x21: "MemoryAllocationFailed",
    0x22: "AccessFailed",
    0x23: "InvalidProgram",
    0x24: "InvalidExternalData",
    0x25: "OutOfResources",
    0x30: "DelegateInvalidCompatibility",
    0x31: "DelegateMemoryAllocationFailed",
    0x32: "DelegateInvalidHandle",
}
"""The codes of ``executorch/runtime/core/error.h``."""

MEMORY = {"MemoryAllocationFailed", "DelegateMemoryAllocationFailed", "OutOfResources"}
DELEGATE = {"Internal", "NotSupported", "NotImplemented", "InvalidArgument", "DelegateInvalidCompatibility"}
"""What a program answers if the bytes can be read, and a delegate or a kernel does not take them."""

MOST_OPERATORS = 6


def why_not_loaded(said: str, program: bytes) -> str:
    """Return the cause, the name of the error, and what to do, in whole sentences.

    ``said`` is what the runtime answered; ``program`` are the bytes of the file.
    """
    name = _name(said)
    if name == "OperatorMissing":
        return (
            f"it needs an operator that this runtime does not have ({name}). Outside its delegate it calls "
            f"{_operators(program)}. Write that layer with other operators, or export for another target."
        )
    if name in MEMORY:
        return f"there is not enough memory for it ({name}). End other programs, or take a smaller network or input."
    if name in DELEGATE:
        return (
            f"the XNNPACK delegate does not take a part of it, or the file is damaged ({name}). Outside the delegate "
            f"it calls {_operators(program)}. Export it again with this version of executorch, in another precision, "
            "or with that layer in float (float_layers in the recipe)."
        )
    if name is not None:
        return f"it is damaged, or of another version of ExecuTorch ({name}). Export it again."
    return f"{said}. Export it again."


def _name(said: str) -> str | None:
    """The error's name, from the name itself (``Error::Internal``) or from its number (``error: 0x:14``)."""
    named = re.search(r"Error::(\w+)", said)
    if named:
        return named[1]
    number = re.search(r"0x:?([0-9a-fA-F]{1,2})\b", said)
    return NAMES.get(int(number[1], 16)) if number else None


def _operators(program: bytes) -> str:
    """The kernels that a program names, as they stand in its tables."""
    found = re.findall(rb"(?:aten|quantized_decomposed|dim_order_ops)::[A-Za-z0-9_]{1,60}", program)
    names = sorted({name.decode() for name in found})
    more = f" and {len(names) - MOST_OPERATORS} more" if len(names) > MOST_OPERATORS else ""
    return ", ".join(names[:MOST_OPERATORS]) + more or "nothing"
