"""The format of a checkpoint file. Its content decides; the suffix only where the content is damaged beyond that."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path

from pipeline.checkpoints import zip_archives
from pipeline.errors import BadCheckpoint

LONGEST_HEADER = 100_000_000
"""Bytes of JSON that safetensors allows in front of the tensors."""


class Format(enum.Enum):
    """The formats that are read."""

    SAFETENSORS = "safetensors"
    PICKLE = "pickle"
    """Of ``torch.save``: a zip archive, or before torch 1.6 a bare pickle."""
    PROGRAM = "program"
    """Of ``torch.export.save``."""


SUFFIXES = {
    ".pt2": Format.PROGRAM,
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".tar", ".pkl", ".pickle"), Format.PICKLE),
}
"""What a file is meant to be where its content does not show it. Every other suffix means safetensors."""

_TRAINED = "give the weights that it was made from (torch.save(network.state_dict(), …) or safetensors)"
_TENSORFLOW = (
    "networks of TensorFlow and Keras are not read. Convert it with TensorFlow's own tools, or give the weights of a "
    "PyTorch network"
)

FOREIGN = (
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 file, as Keras writes its weights", _TENSORFLOW),
    (b"TFL3", 4, "a TFLite model", _TRAINED),
    (b"ET", 4, "an ExecuTorch program", _TRAINED),
    (b"GGUF", 0, "a GGUF file of a language model", "an image classifier is needed"),
    (b"\x1f\x8b", 0, "compressed with gzip", "unpack it first"),
    (b"BZh", 0, "compressed with bzip2", "unpack it first"),
    (b"\xfd7zXZ", 0, "compressed with xz", "unpack it first"),
    (b"ustar", 257, "a tar archive", "unpack it first"),
    (b"\x93NUMPY", 0, "a NumPy array", _TRAINED),
    (
        b"version https://git-lfs",
        0,
        "a Git LFS pointer, not the file itself",
        "fetch the file with 'git lfs pull', or download it again",
    ),
    (b"<!DOCTYPE", 0, "a web page", "the download went wrong: fetch the file again"),
    (b"<!doctype", 0, "a web page", "the download went wrong: fetch the file again"),
    (b"{", 0, "a JSON file", "give the file of the weights that it stands beside (.safetensors, .pt)"),
    (b"<html", 0, "a web page", "the download went wrong: fetch the file again"),
)
"""Bytes that a format of others has at an offset, its name, and what to do."""

TORCHSCRIPT = (
    "a TorchScript program",
    "save the weights alone: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')",
)
ONNX = ("an ONNX model", f"the graph of an ONNX file is not read: {_TRAINED}")
KERAS = ("a Keras archive", _TENSORFLOW)
NUMPY = ("a NumPy archive", _TRAINED)


def format_of(data: bytes, path: Path) -> Format:
    """Return the format of a file with this content.

    Raises:
        BadCheckpoint: a format that is known and not read, by its name and with what to give instead.
    """
    found = _decided(data)
    if isinstance(found, Format):
        return found
    if found is not None:
        name, advice = found
        raise BadCheckpoint(f"'{path}' is {name}, not a PyTorch checkpoint: {advice}.")
    return SUFFIXES.get(path.suffix.lower(), Format.SAFETENSORS)


def is_program(data: bytes) -> bool:
    """Whether the content is an exported program, whatever the file is called."""
    return _decided(data) is Format.PROGRAM


def _decided(data: bytes) -> Format | tuple[str, str] | None:
    """The format, or the name and advice of one that is not read; None where the content does not show it."""
    if _is_safetensors(data):
        return Format.SAFETENSORS
    if data.startswith(b"PK"):
        return _of_zip(data)
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return Format.PICKLE
    for mark, offset, name, advice in FOREIGN:
        if data[offset : offset + len(mark)] == mark:
            return name, advice
    return ONNX if _is_onnx(data) else None


def _is_safetensors(data: bytes) -> bool:
    """Eight bytes with the length of a JSON object, and its beginning."""
    return len(data) > 8 and data[8:9] == b"{" and 2 <= int.from_bytes(data[:8], "little") <= LONGEST_HEADER


def _of_zip(data: bytes) -> Format | tuple[str, str] | None:
    try:
        names = zip_archives.names(data)
    except ValueError:
        return None
    inside = {name.partition("/")[2] for name in names}  # torch puts everything in one folder
    if {"models/model.json", "archive_format"} & inside or "serialized_exported_program.json" in names:
        return Format.PROGRAM
    if "constants.pkl" in inside and any(name.startswith("code/") for name in inside):
        return TORCHSCRIPT
    if "data.pkl" in inside:
        return Format.PICKLE
    if {"model.weights.h5", "config.json"} <= set(names):
        return KERAS
    if names and all(name.endswith(".npy") for name in names):
        return NUMPY
    return None


def _is_onnx(data: bytes) -> bool:
    """Whether this begins as an ONNX ``ModelProto``: its version, then the name of the program that wrote it."""
    fields = dict(_first_fields(data))
    return 0 < int(fields.get(1, 0)) < 64 and (2 in fields or 7 in fields)


def _first_fields(data: bytes) -> Iterator[tuple[int, int]]:
    """The numbers of the first three fields of a protobuf message, each with its value or the length of its bytes."""
    place = 0
    for _ in range(3):
        if place >= len(data) or data[place] & 0x80:
            return
        number, kind = data[place] >> 3, data[place] & 7
        place += 1
        value = shift = 0
        while place < len(data) and shift < 63:
            value |= (data[place] & 0x7F) << shift
            shift += 7
            place += 1
            if not data[place - 1] & 0x80:
                break
        if kind not in (0, 2) or (kind == 2 and place + value > len(data)):
            return
        yield number, value
        place += value if kind == 2 else 0
