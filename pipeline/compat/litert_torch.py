"""What the target needs of litert-torch beyond its documented interface."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def fewest_transposes() -> Iterator[None]:
    """Let the converter search exactly where channels go last; in graphs of 1,600 nodes it else takes a rule of thumb.

    That leaves two transposes at the entrance of EfficientNet-B3 and larger, one of them outside the delegate.
    """
    from litert_torch import config

    before = config.layout_optimize_partitioner
    config.layout_optimize_partitioner = "MINCUT"
    try:
        yield
    finally:
        config.layout_optimize_partitioner = before


@contextlib.contextmanager
def only_as_annotated() -> Iterator[None]:
    """Put the converter into its strict mode, for which litert-torch has no parameter.

    Without it what is to stay in float between two int8 tensors (a layer, a GELU, the product with a constant) is put
    into int8 all the same, with ranges that nothing was calibrated for, and a softmax with another scale than 1/256
    makes a file that cannot be loaded. Not for files wholly in int8: their logits would be dequantized in the file.
    """
    from litert_torch._convert import litert_converter

    api = litert_converter.converter_api_ext
    default = api.ConvertToTFLConfig

    def strict() -> Any:
        config = default()
        config.strict_qdq_mode = True
        return config

    api.ConvertToTFLConfig = strict
    try:
        yield
    finally:
        api.ConvertToTFLConfig = default
