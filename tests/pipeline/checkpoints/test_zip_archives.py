"""Zip archives that stand for more than they hold are refused before anything is unpacked."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from pipeline.checkpoints.zip_archives import LARGEST_DIRECTORY, Unread, member, members, names


def packed(content: dict[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        archive.comment = comment
    return stream.getvalue()


PLAIN = packed({"archive/data.pkl": b"pickle", "archive/data/0": bytes(100)})


def directory_entry(data: bytes) -> int:
    """Where the first entry of the list of members begins."""
    return data.index(b"PK\1\2")


def patched(at: int, value: bytes) -> bytes:
    return PLAIN[:at] + value + PLAIN[at + len(value) :]


def test_members_are_named_without_their_root_folder() -> None:
    assert members(PLAIN) == {"data.pkl": b"pickle", "data/0": bytes(100)}
    assert member(PLAIN, "data.pkl") == b"pickle"
    assert names(PLAIN) == ["archive/data.pkl", "archive/data/0"]
    with pytest.raises(ValueError, match="no member 'code'"):
        member(PLAIN, "code")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (packed({"a/data.pkl": bytes(100_000_000)}, zipfile.ZIP_DEFLATED), "compressed"),
        (packed({"a/data.pkl": b"", "b/data.pkl": b""}), "two members of one name"),
        (packed({"a/data.pkl": b""}, comment=b"and more"), "something follows"),
        (patched(directory_entry(PLAIN) + 8, b"\1\0"), "encrypted"),
        (patched(directory_entry(PLAIN) + 24, struct.pack("<I", 2**31)), "are said to have 2,147,483,748 bytes"),
        (patched(directory_entry(PLAIN) + 20, struct.pack("<I", 7)), "are said to have"),
    ],
)
def test_what_torch_does_not_write_is_not_read(data: bytes, message: str) -> None:
    for read in (members, lambda data: member(data, "data.pkl")):
        with pytest.raises(Unread, match=message):
            read(data)


def test_members_that_share_their_bytes_are_refused() -> None:
    """One stored member that the list names a hundred times."""
    one = packed({"a/0": bytes(100_000)})
    start = directory_entry(one)
    entry = one[start:-22]
    entries = b"".join(entry.replace(b"a/0", b"a/%c" % (48 + number)) for number in range(50))
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 50, 50, len(entries), start, 0)
    with pytest.raises(Unread, match="5,000,000 bytes, and the file has"):
        members(one[:start] + entries + end)


def test_an_endless_list_of_members_is_not_read() -> None:
    entry = PLAIN[directory_entry(PLAIN) : PLAIN.index(b"PK\1\2", directory_entry(PLAIN) + 4)]
    entries = entry * (LARGEST_DIRECTORY // len(entry) + 1)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(entries), 0, 0)
    with pytest.raises(ValueError, match="its list of members has"):
        names(entries + end)


@pytest.mark.parametrize("data", [b"", b"PK", PLAIN[:100], PLAIN[:-30]], ids=["empty", "two bytes", "start", "cut"])
def test_what_is_no_whole_archive_says_so(data: bytes) -> None:
    with pytest.raises(ValueError, match="."):
        members(data)
