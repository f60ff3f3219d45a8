"""Safetensors files are read, and damaged ones refused with a clause."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
import torch
from safetensors.torch import save

from calibration.algorithms.repairs import Repairs
from calibration.tensor_files import LARGEST_HEADER, read_tensors
from pipeline.errors import BadCalibration

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def file(header: dict[str, Any] | bytes, data: bytes = bytes(4)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_tensors_and_texts_come_back() -> None:
    tensors, texts = read_tensors(save({"a": torch.arange(3)}, {"about": "it"}))
    assert (tensors["a"].tolist(), texts) == ([0, 1, 2], {"about": "it"})


def test_texts_may_be_null() -> None:
    assert read_tensors(file({"__metadata__": None, "a": ONE}))[1] == {}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header"),
        (struct.pack("<Q", 2**63) + b"{}", "header"),
        (file({"a": ONE, "b": ONE}), "offset"),
        (file({"a": {**ONE, "shape": [2**62, 2**62]}}), "."),
        (file({"a": {**ONE, "shape": [2**63, 0], "data_offsets": [0, 0]}}, b""), "impossible shape"),
        (file({"a": {**ONE, "dtype": "F4", "shape": [8]}}), "no type F4"),
        (file(b'{"a":' + b"[" * 100_000), "recursion"),
        (file(b'{"a\xff":{}}'), "UTF-8"),
        (file(b"{" + b" " * LARGEST_HEADER + b"}"), "at most 10,000,000 are read"),
        (file({"__metadata__": [1], "a": ONE}), "."),
        (file({"__metadata__": {"a": 1}, "a": ONE}), "."),
    ],
)
def test_damaged_and_hostile_files_are_refused_with_a_clause(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tensors(data)
    with pytest.raises(BadCalibration, match="These are no repairs"):
        Repairs.from_bytes(data)
