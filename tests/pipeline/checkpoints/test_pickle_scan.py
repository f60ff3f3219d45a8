"""A pickle that would build more than memory or time allow is refused before torch reads it."""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.checkpoints.load import read
from pipeline.checkpoints.pickle_scan import MOST_OBJECTS, MOST_OPERATIONS, Refused, scan
from pipeline.checkpoints.pickles import unpickled
from pipeline.checkpoints.state_dicts import find
from pipeline.errors import BadCheckpoint


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def doubled(times: int, first: bytes, pair: bytes) -> bytes:
    """An object that refers twice to one that refers twice to one, and so on."""
    return first + b"".join(b"q%c" % number + pair.replace(b"?", b"h%c" % number) for number in range(times))


TUPLES = doubled(60, b")", b"?\x86")
LISTS = doubled(60, b"]", b"](??e")

HOSTILE = {
    "key": (pickled(b"}" + TUPLES + b"K\x01s"), "without end"),
    "key, then cut": (b"\x80\x02}" + TUPLES + b"K\x01s", "without end"),
    "key, then damaged": (b"\x80\x02}" + TUPLES + b"K\x01s\xff\xff", "without end"),
    "called": (pickled(LISTS + b")R"), "without end"),
    "deep": (pickled(b"})" + b"\x85" * 5000 + b"K\x01s"), "without end"),
    "bytearray": (pickled(b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R"), "calls 'builtins.bytearray'"),
    "tensor": (pickled(b"ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R"), "calls 'torch.Tensor'"),
    "storage": (pickled(b"ctorch.storage\nUntypedStorage\nJ\xff\xff\xff\x7f\x85R"), "calls 'torch.storage"),
    "objects": (pickled(b"](" + b"}" * (MOST_OBJECTS + 1) + b"e"), f"{MOST_OBJECTS:,} objects"),
    "operations": (pickled(b"](" + b"N" * MOST_OPERATIONS + b"e"), f"{MOST_OPERATIONS:,} operations"),
}


def archive(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        zipped.writestr("archive/data.pkl", data)
        zipped.writestr("archive/version", b"3\n")
    return stream.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_pickles_that_grow_are_refused(name: str) -> None:
    data, message = HOSTILE[name]
    with pytest.raises(Refused, match=message):
        scan(io.BytesIO(data))
    for file in (archive(data), data):
        with pytest.raises(BadCheckpoint, match=f"is not read: its pickle .*{message}"):
            unpickled(file, Path("it.pt"))


def test_a_file_of_before_torch_1_6_is_followed_through_all_its_pickles() -> None:
    stream = io.BytesIO()
    torch.save({"a": torch.arange(3.0)}, stream, _use_new_zipfile_serialization=False)
    whole = stream.getvalue()
    assert unpickled(whole, Path("it.pt"))["a"].tolist() == [0, 1, 2]
    at = whole.index(b"\x80\x02}")  # the objects, behind a number, a version and the system
    start = next(start for start in range(at, len(whole)) if whole.startswith(b"\x80\x02}q\x00X\x01", start))
    with pytest.raises(BadCheckpoint, match="without end"):
        unpickled(whole[:start] + pickled(b"}" + TUPLES + b"K\x01s"), Path("it.pt"))


def test_what_refers_to_itself_counts_once() -> None:
    scan(io.BytesIO(pickled(b"]q\x00h\x00a")))
    scan(io.BytesIO(pickled(b"}q\x00](h\x00h\x00eq\x01K\x01h\x01s")))


def test_shared_settings_of_an_optimizer_are_read() -> None:
    network = nn.Linear(3, 2)
    betas = (0.9, 0.999)
    groups = [{"params": [number], "betas": betas, "lr": 0.1} for number in range(300)]
    stream = io.BytesIO()
    torch.save({"model": network.state_dict(), "groups": groups, "history": [0.5] * 100_000}, stream)
    found = unpickled(stream.getvalue(), Path("it.pt"))
    assert torch.equal(found["model"]["weight"], network.weight)
    assert found["groups"] == groups


@pytest.mark.parametrize("data", [b"", b"\x80\x02a.", b"\x80\x02h\x05.", b"\x80\x02X\xff\xff\xff\xff", b"\xff"])
def test_a_damaged_pickle_is_told_apart(data: bytes) -> None:
    with pytest.raises(ValueError, match="."):
        scan(io.BytesIO(data))


def test_an_archive_that_zipfile_does_not_read_is_not_given_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*_: object, **__: object) -> None:
        raise AssertionError("torch.load was called")

    monkeypatch.setattr(torch, "load", reached)
    with pytest.raises(BadCheckpoint, match="is not a state dict of plain tensors and was not executed"):
        unpickled(archive(pickled(b"}"))[:-30], Path("it.pt"))


def test_a_tensor_of_a_few_numbers_and_a_giant_shape_is_refused() -> None:
    giant = torch.zeros(1).expand(1_000_000, 1_000_000)
    with pytest.raises(BadCheckpoint, match="'giant' has the shape .* far fewer numbers"):
        find(OrderedDict(giant=giant), Path("it.pt"))
    assert find({"small": torch.zeros(1).expand(1, 512)}, Path("it.pt"))[0].tensors["small"].shape == (1, 512)


@pytest.mark.parametrize("name", ["a" * 1001, "a." * 51 + "b"])
def test_a_name_of_absurd_length_or_depth_is_refused(name: str, tmp_path: Path) -> None:
    state = {name: torch.zeros(1)}
    path = tmp_path / "it.safetensors"
    save_file(state, path)
    for reading in (lambda: find(state, path), lambda: read(path)):
        with pytest.raises(BadCheckpoint, match="at most 1000 and 50 are read"):
            reading()
