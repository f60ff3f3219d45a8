"""What we use of LiteRT beyond its documentation: kernels without XNNPACK, and the words of its errors."""

from __future__ import annotations

from typing import Any

MISSING_OPERATOR = ("builtin opcode", "custom op")
"""Parts of the message for a model with an operator that the runtime does not have."""


def interpreter_of(library: Any, data: bytes, threads: int, *, xnnpack: bool) -> Any:
    """Return an interpreter of ``ai_edge_litert.interpreter`` or ``tflite_runtime.interpreter`` for these bytes.

    Raises:
        ValueError, RuntimeError: it does not load them.
    """
    if xnnpack:
        return library.Interpreter(model_content=data, num_threads=threads)
    resolver = library.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return library.Interpreter(model_content=data, num_threads=threads, experimental_op_resolver_type=resolver)


def lacks_operator(error: Exception) -> bool:
    """Whether a model was not loaded because of an operator that the runtime does not have."""
    return any(words in str(error) for words in MISSING_OPERATOR)
