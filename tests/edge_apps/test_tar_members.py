"""Members of a tar come one by one; headers that claim anything absurd are refused with a clause."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_apps import image_tree
from edge_apps.errors import BadInput
from edge_apps.image_tree import read_tree
from edge_apps.tar_members import BadTar, is_tar, tar_members

BLOCK = tarfile.BLOCKSIZE


def header(name: str = "cat/1.jpg", size: int = 0, kind: bytes = tarfile.REGTYPE, field: bytes | None = None) -> bytes:
    """One header block; ``field`` takes the place of the 12 bytes of its size."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = size
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT)[:BLOCK])
    if field is not None:
        block[124:136] = field
        block[148:156] = b" " * 8
        block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return header("pax", len(records), kind) + padded(records)


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest) + 2))
    return b"%d" % length + rest


END = bytes(2 * BLOCK)
IMAGE = header(size=3) + padded(b"abc")

HOSTILE: dict[str, tuple[bytes, str]] = {
    "negative": (header(field=b"\xff" + b"\xff" * 9 + b"\xfc\x00"), "size -1,024"),
    "giant": (header(field=b"\x80" + b"\xff" * 11), "damaged|unexpected"),
    "size by pax": (pax(record(b"size", b"-4096")) + header(), "size"),
    "pax": (header("pax", 2**32, tarfile.XHDTYPE), "header in it has 4,294,967,296 bytes; at most 1,000,000"),
    "long name": (header("x", 2**32, tarfile.GNUTYPE_LONGNAME), "at most 1,000,000 are read"),
    "negative pax": (header("x", kind=tarfile.XHDTYPE, field=b"\xff" * 10 + b"\xfc\x00"), "header in it has -1,024"),
    "quadratic": (pax(b"2 " * 100_000 + b"="), "pax header in it is damaged"),
    "global": (
        pax(b"".join(record(b"k%d" % number, b"") for number in range(200)), tarfile.XGLTYPE) + IMAGE,
        "more than 100 global records",
    ),
    "chain": (pax(record(b"a", b"b")) * 2000 + IMAGE, "damaged|header in it has"),
    "long path": (pax(record(b"path", b"a" * 5000)) + header(), "has 5,000 characters"),
    "deep": (pax(record(b"path", b"a/" * 100 + b"b")) + header(), "100 folders; at most 4,096 and 64"),
    "sparse": (
        pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0")) + header() + padded(b"99999\n"),
        "damaged",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_absurd_headers_are_refused_at_once(name: str, tmp_path: Path) -> None:
    data, message = HOSTILE[name]
    started = time.monotonic()
    with pytest.raises(BadTar, match=message):
        list(tar_members(io.BytesIO(data + END)))
    path = tmp_path / "it.tar"
    path.write_bytes(data + END)
    with pytest.raises(BadInput, match=r"Cannot read '.*it\.tar' as an uncompressed tar \("):
        read_tree(path)
    assert time.monotonic() - started < 5


def test_members_come_in_order_and_none_is_kept() -> None:
    names = [f"cat/{number}.jpg" for number in range(3)]
    data = b"".join(header(name, 3) + padded(b"abc") for name in names) + END
    assert [(member.name, member.size) for member in tar_members(io.BytesIO(data))] == [(name, 3) for name in names]


def test_attributes_of_macos_are_read() -> None:
    attributes = record(b"LIBARCHIVE.xattr.com.apple.FinderInfo", b"\0" * 32) + record(b"mtime", b"1700000000.5")
    members = list(tar_members(io.BytesIO((pax(attributes) + IMAGE) * 3 + END)))
    assert [member.name for member in members] == ["cat/1.jpg"] * 3


def test_a_tar_without_its_end_mark_is_truncated() -> None:
    with pytest.raises(BadTar, match="without its end mark"):
        list(tar_members(io.BytesIO(IMAGE)))


@pytest.mark.parametrize(("data", "expected"), [(IMAGE + END, True), (END, False), (b"", False), (b"x" * 2000, False)])
def test_a_tar_is_told_by_its_first_header(data: bytes, expected: bool) -> None:
    stream = io.BytesIO(data)
    assert is_tar(stream) == expected
    assert stream.tell() == 0


@pytest.fixture
def tarred(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "set.tar"
        path.write_bytes(data + END)
        return path

    return write


def test_a_hard_link_is_the_image_that_it_names(tarred: Callable[[bytes], Path]) -> None:
    info = tarfile.TarInfo("dog/2.jpg")
    info.type, info.linkname = tarfile.LNKTYPE, "cat/1.jpg"
    first, second = read_tree(tarred(IMAGE + info.tobuf())).images
    assert (first.path, second.path) == ("cat/1.jpg", "dog/2.jpg")
    assert (first.offset, first.size) == (second.offset, second.size) == (BLOCK, 3)
    info.linkname = "cat/3.jpg"
    with pytest.raises(BadInput, match="'dog/2.jpg' is a link to 'cat/3.jpg', which is not stored in it"):
        read_tree(tarred(IMAGE + info.tobuf()))


def test_folders_of_a_tar_have_a_limit(tarred: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_tree, "MOST_FOLDERS", 10)
    with pytest.raises(BadInput, match="more than 10 folders"):
        read_tree(tarred(b"".join(header(f"{number}/1.jpg") for number in range(11))))
