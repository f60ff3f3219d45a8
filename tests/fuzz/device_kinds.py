"""What a device reads from outside: small whole inputs of each kind, made by code, and the functions that read them."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import random
import socket
import sqlite3
import tarfile
import zlib
from pathlib import Path

import cv2
import numpy as np
from checksums import png_with_checksums, tar_with_checksums
from kinds import Kind
from mutations import mutated, mutated_json, mutated_toml

from edge_apps.errors import EdgeError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
VERSION_1 = Path(__file__).parents[1] / "edge_apps/camera/log/version_1.sql"
EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def _encoded(suffix: str, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, PIXELS, options)[1].tobytes())


def _images() -> list[bytes]:
    jpeg = _encoded(".jpg")
    turned = jpeg[:2] + b"\xff\xe1" + (len(EXIF) + 2).to_bytes(2, "big") + EXIF + jpeg[2:]
    vp8x = b"VP8X\x0a\0\0\0\x08\0\0\0" + b"\x0f\0\0\x0b\0\0"
    webp = _encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 50)
    extended = b"WEBP" + vp8x + webp[12:] + b"EXIF" + len(EXIF).to_bytes(4, "little") + EXIF
    return [
        jpeg,
        turned,
        _encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        _encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        _encoded(".png"),
        webp,
        _encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
        b"RIFF" + len(extended).to_bytes(4, "little") + extended,
        _encoded(".bmp"),
    ]


def _image(chance: random.Random, corpus: list[bytes]) -> bytes:
    data = mutated(chance, corpus)
    return png_with_checksums(data) if data.startswith(b"\x89PNG") and chance.random() < 0.8 else data


def _read_image(data: bytes, _: Path) -> None:
    from edge_apps.images import decode

    assert decode(data, "it").ndim == 3


def _tars() -> list[bytes]:
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
            for name in ("cat/1.jpg", f"dog/{'long/' * 30}2.png", "dog/é.bmp"):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = 20, 1_700_000_000
                tar.addfile(info, io.BytesIO(bytes(20)))
            for name, kind in (("cat/2.jpg", tarfile.LNKTYPE), ("cat/3.jpg", tarfile.SYMTYPE)):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "cat/1.jpg" if kind == tarfile.LNKTYPE else "1.jpg"
                tar.addfile(info)
        found.append(stream.getvalue()[: -(-stream.tell() // 512) * 512 or None][:8192])
    return found


def _tar(chance: random.Random, corpus: list[bytes]) -> bytes:
    data = mutated(chance, corpus)
    return tar_with_checksums(data) if chance.random() < 0.8 else data


def _read_tar(data: bytes, folder: Path) -> None:
    from edge_apps.camera.sources.kind import kind_of
    from edge_apps.images import open_images

    path = folder / "it.tar"
    path.write_bytes(data)
    kind_of(path)
    images = open_images(path)
    for index in range(min(3, len(images))):
        with contextlib.suppress(EdgeError):
            images.image(index)


def _logs() -> list[bytes]:
    from edge_apps.camera.inference.session import Session
    from edge_apps.camera.log import schema
    from edge_apps.camera.log.session import row_of
    from edge_apps.runtime.device import Device
    from edge_apps.runtime.histogram import Histogram

    device = Device(
        board="Board", soc="SoC", cpu="CPU", arch="aarch64", cores=4, usable_cores=4, memory_mb=8000, os="Linux",
        kernel="6.1", python="3.11", opencv="5.0", numpy="2.0",
    )  # fmt: skip
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        schema.create(database)
        for number in (1, 2):
            session = Session(
                device=device, runtime="fake 1.0", threads=1, model="m", file="m.tflite", sha256="ab" * 32,
                target="tflite", precision="int8", input="8×8", source="folder:x", load_ms=1.0, first_ms=2.0, warmup=5,
            )  # fmt: skip
            row = row_of(session)
            row |= {"id": number, "uuid": f"uuid-{number}", "started": "2026-01-01T00:00:00.000Z"}
            row |= {"ended": row["started"], "ended_by": "frames", "frames_dropped": number - 1}
            database.execute(schema.insert("session"), [row[name] for name in schema.columns("session")])
            for frame in range(4):
                values = (number, frame, frame * 10**8, "x.jpg", 1.5, 1, 2, 3, 4, 5, 15, 16, "cat", 0.5)
                database.execute(schema.insert("frame"), values)
            window = (number, 0, "total", 1.0, 0, 3 * 10**8, 5, 1, 2, 3, 4, 5, Histogram([1, 2, 3, 4, 5]).to_bytes())
            database.execute(schema.insert("window"), window)
            database.execute(schema.insert("sample"), (number, 0, 5, 1.0, 50.0, 1500.0, '["hot"]', 90.0, "15W"))
            database.execute(schema.insert("event"), (number, 0, 5, 1.0, "lost", None, "", "gone"))
        current = database.serialize()
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.executescript(VERSION_1.read_text())
        return [current, database.serialize()]


SQL_VALUES = (None, b"\0\xff", "text", "", 2**63 - 1, -(2**63), 1e308, float("inf"), -1, 0, "[1]", "{}", '["' * 2000)


def _log(chance: random.Random, corpus: list[bytes]) -> bytes:
    """Damaged pages, or whole ones with other values."""
    from edge_apps.camera.log import schema

    if chance.random() < 0.4:
        return mutated(chance, corpus)
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.deserialize(chance.choice(corpus))
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '')")
        database.execute("PRAGMA writable_schema = RESET")
        for _ in range(chance.choice((1, 1, 3))):
            table = chance.choice(list(schema.TABLES))
            column = chance.choice(schema.columns(table))
            with contextlib.suppress(sqlite3.Error):
                database.execute(f"UPDATE {table} SET {column} = ?", (chance.choice(SQL_VALUES),))
        if chance.random() < 0.1:
            table = chance.choice(list(schema.TABLES))
            database.execute(f"DROP TABLE IF EXISTS {table}")
            endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS session FROM n"
            database.execute(f"CREATE VIEW {table} AS {endless}")
        return database.serialize()


def _read_log(data: bytes, folder: Path) -> None:
    from edge_apps.camera.log import schema
    from edge_apps.camera.log.compare import as_json, compare_logs
    from edge_apps.camera.log.export import STDOUT, export
    from edge_apps.camera.log.show import compared_parts, group_parts
    from edge_apps.camera.log.summary import summarize_log
    from edge_apps.console import print_parts

    path = folder / "it.db"
    path.write_bytes(data)
    chosen = zlib.crc32(data)  # one table, and printing now and then: both together take 50 ms
    with contextlib.redirect_stdout(io.StringIO()):
        groups = summarize_log(path)
        export(path, list(schema.TABLES)[chosen % len(schema.TABLES)], "jsonl", STDOUT)
        compared = compare_logs([path])
        if chosen % 4 == 0:
            as_json(compared)
            print_parts(compared_parts(compared))
            for group in groups:
                print_parts(group_parts(group))


def _streams() -> list[bytes]:
    jpeg = _encoded(".jpg")
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for _ in range(2)) + b"0\r\n\r\n"
    packed = zlib.compressobj(wbits=31)
    return [
        head + b"\r\n" + part * 3,
        head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
        head + b"Content-Encoding: gzip\r\n\r\n" + packed.compress(part * 3) + packed.flush(),
        b"HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s" % (len(jpeg), jpeg),
        b"HTTP/1.0 200 OK\r\n\r\n" + jpeg * 3,
    ]


class _Answer(socket.socket):
    """A connection that has sent all that it sends."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:  # type: ignore[override]
        return io.BufferedReader(io.BytesIO(self._data))  # type: ignore[type-var]


def _read_stream(data: bytes, _: Path) -> None:
    from edge_apps.camera.capture.grabbers import Corrupt, Lost, _answered, _decoder

    with contextlib.closing(_Answer(data)) as connection:
        answer = http.client.HTTPResponse(connection)
        try:
            answer.begin()
            for part in _answered(answer):
                with contextlib.suppress(Corrupt):
                    _decoder(part)()
        except (Lost, OSError, http.client.HTTPException):  # what the camera program waits for
            pass


def _configurations() -> list[bytes]:
    text = """
source = "folder:images"
model = "bundle"
threads = 2
top-k = 3
threshold = 0.5
frames = 100
log = "log.db"
loop = true
snapshot-on = ["cat", "dog"]
size = "640x480"
"""
    return [text.strip().encode()]


def _read_configuration(data: bytes, folder: Path) -> None:
    from edge_apps.camera.commands.config import options_in
    from edge_apps.camera.commands.run import run

    path = folder / "it.toml"
    path.write_bytes(data)
    options_in(path, run)


def _manifests() -> list[bytes]:
    geometry = {"height": 32, "width": 32, "resize": "crop", "resize_to": 40}
    about = {
        "format": 1, "model": "m", "options": {"width": 1.0}, "labels": ["a", "b"], "preprocess": geometry,
        "provenance": {"checkpoint_sha256": "ab" * 32, "ranges_sha256": "cd" * 32, "tools": {"torch": "2"}},
    }  # fmt: skip
    of_file = {"target": "tflite", "precision": "int8"}
    files = [
        {"path": "m.tflite", "role": "model", "sha256": "ab" * 32, "bytes": 3, **of_file},
        {"path": "ranges.json", "role": "ranges", "sha256": "cd" * 32, "bytes": 3},
    ]
    kept = {"files": files, "observers": {"a": "mse"}, "findings": ["x"], "exported": ["m.tflite"]}
    bundle = {**about, "created": "2025", **kept}
    return [json.dumps(document).encode() for document in (bundle, {**about, **of_file})]


def _read_manifest(data: bytes, folder: Path) -> None:
    from edge_apps.runtime.manifest import load_bundle, parse_file_manifest

    (folder / "manifest.json").write_bytes(data)
    try:
        load_bundle(folder)
    except EdgeError:
        parse_file_manifest(data, folder / "it.tflite")


def _box(name: bytes, body: bytes) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + name + body


def _videos() -> list[bytes]:
    time = _box(b"mvhd", bytes(12) + (600).to_bytes(4, "big") + (6000).to_bytes(4, "big") + bytes(16))
    media = _box(b"mdhd", bytes(12) + (600).to_bytes(4, "big") + (6000).to_bytes(4, "big") + bytes(16))
    table = _box(b"minf", _box(b"stbl", _box(b"stsz", bytes(8) + (25).to_bytes(4, "big"))))
    edits = _box(b"edts", _box(b"elst", bytes(4) + (1).to_bytes(4, "big") + bytes(12)))
    track = _box(b"trak", edits + _box(b"mdia", media + _box(b"hdlr", bytes(8) + b"vide" + bytes(12)) + table))
    mp4 = _box(b"ftyp", b"isom" + bytes(4)) + _box(b"moov", time + track) + _box(b"mdat", bytes(20))
    header = b"strh" + (56).to_bytes(4, "little") + b"vids" + bytes(28) + (25).to_bytes(4, "little") + bytes(20)
    stream = b"LIST" + (len(header) + 4).to_bytes(4, "little") + b"strl" + header
    headers = b"LIST" + (len(stream) + 4).to_bytes(4, "little") + b"hdrl" + stream
    avi = b"RIFF" + bytes(4) + b"AVI " + headers + b"idx1" + (32).to_bytes(4, "little") + (b"00dc" + bytes(12)) * 2
    matroska = b"\x1a\x45\xdf\xa3\x84abcd\x18\x53\x80\x67\x01\0\0\0\0\0\0\x20" + bytes(20)
    return [mp4, avi, matroska]


def _read_video(data: bytes, folder: Path) -> None:
    from edge_apps.camera.sources.container import read_container
    from edge_apps.camera.sources.kind import is_still, kind_of, unread_image

    path = folder / "it.mp4"
    path.write_bytes(data)
    read_container(path)
    kind_of(path)
    unread_image(path)
    is_still(path)


KINDS = {
    "images": Kind(_images, _image, _read_image),
    "tars": Kind(_tars, _tar, _read_tar),
    "logs": Kind(_logs, _log, _read_log),
    "mjpeg": Kind(_streams, mutated, _read_stream),
    "configuration": Kind(_configurations, mutated_toml, _read_configuration),
    "manifests": Kind(_manifests, mutated_json, _read_manifest),
    "videos": Kind(_videos, mutated, _read_video),
}
