"""Safetensors files that may be damaged or hostile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edge_apps.errors import first_line
from edge_apps.untrusted import parse_json

if TYPE_CHECKING:
    import torch

LARGEST_HEADER = 10_000_000
"""Bytes of JSON in front of the tensors. The networks of the zoo have 0.2 MB at most; 10 take 1 s to read."""


class _Header(msgspec.Struct):
    """What of a header is not read by the library itself."""

    metadata: dict[str, str] | None = msgspec.field(default=None, name="__metadata__")


def read_tensors(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors by name, and the texts that the header holds beside them.

    Raises:
        ValueError: with a clause that says why it is not a whole file that torch can read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    length = int.from_bytes(data[:8], "little")
    if LARGEST_HEADER < length <= len(data):
        raise ValueError(f"its header has {length:,} bytes, and at most {LARGEST_HEADER:,} are read")
    try:
        tensors: dict[str, torch.Tensor] = load(data)
    except SafetensorError as error:
        raise ValueError(first_line(error)) from error
    except KeyError as error:
        raise ValueError(f"torch has no type {error.args[0]}") from error
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError("a tensor in it has an impossible shape") from error
    return tensors, parse_json(data[8 : 8 + length], _Header).metadata or {}
