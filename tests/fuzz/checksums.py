"""Checksums and archives made right again around damage, so that it is what lies behind them that is tested."""

from __future__ import annotations

import io
import random
import struct
import tarfile
import zipfile
import zlib

from mutations import mutated, mutated_json


def png_with_checksums(data: bytes) -> bytes:
    """Return a PNG with the checksums that its chunks should have."""
    fixed, at = bytearray(data), 8
    while at + 12 <= len(fixed):
        end = at + 8 + int.from_bytes(fixed[at : at + 4], "big")
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(fixed[at + 4 : end]))
        at = end + 4
    return bytes(fixed)


def tar_with_checksums(data: bytes) -> bytes:
    """Return a tar in which every block that looks like a header has the checksum of one."""
    fixed = bytearray(data)
    for at in range(0, len(fixed) - tarfile.BLOCKSIZE + 1, tarfile.BLOCKSIZE):
        if fixed[at + 257 : at + 262] == b"ustar":
            fixed[at + 148 : at + 156] = b" " * 8
            fixed[at + 148 : at + 155] = b"%06o\0" % sum(fixed[at : at + tarfile.BLOCKSIZE])
    return bytes(fixed)


def zip_with_damage_inside(chance: random.Random, data: bytes) -> bytes:
    """Return a whole zip archive with one member damaged, preferably one that says what the others are."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    telling = [name for name in members if name.endswith((".pkl", ".json"))]
    name = chance.choice(telling if telling and chance.random() < 0.8 else list(members))
    members[name] = (mutated_json if name.endswith(".json") else mutated)(chance, [members[name]])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return stream.getvalue()


def safetensors_with_header(chance: random.Random, data: bytes) -> bytes:
    """Return a safetensors file whose header is still JSON of the stated length, with other values."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = mutated_json(chance, [data[8:end]])
    return struct.pack("<Q", len(header)) + header + data[end:]
