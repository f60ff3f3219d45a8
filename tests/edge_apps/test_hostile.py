"""Hostile files are refused in one line, in little memory and time: measured in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

MOST_MB, MOST_S = 512, 5.0
"""Megabytes beyond what the interpreter has after its imports, and seconds of the processor from the read on."""

CHILD = """
import json, sys, time
from pathlib import Path
from edge_apps.camera.sources.files import ImageFile
from edge_apps.errors import EdgeError
from edge_apps.images import decode

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024

before, started = peak(), time.process_time()
try:
    image = decode(ImageFile(Path(sys.argv[1])).encoded(0), "it")
    said, status, shape = "", 0, image.shape
except EdgeError as error:
    said, status, shape = str(error), error.exit_status, None
used = {"mb": (peak() - before) / 1e6, "s": time.process_time() - started}
print(json.dumps({"said": said, "status": status, "shape": shape, **used}))
"""


def measured(path: Path) -> dict[str, Any]:
    """What reading an image says, in how many megabytes and seconds."""
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found: dict[str, Any] = json.loads(ended.stdout)
    print(f"{path.name}: {path.stat().st_size:,} bytes, {found['mb']:.0f} MB, {found['s']:.2f} s; {found['said']}")
    return found


@pytest.fixture(scope="module")
def hostile_files() -> list[Path]:
    """Files that attacks used, which may not live in this repository."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "cases" / "hostile"
    if not folder.is_dir():
        pytest.skip("the hostile files are not on this machine: this test did NOT run")
    return sorted(folder.iterdir())


def test_files_that_attacks_used_are_refused_in_little_memory(hostile_files: list[Path]) -> None:
    assert hostile_files
    for path in hostile_files:
        found = measured(path)
        assert found["status"] == 2, path
        assert found["said"], path
        assert "\n" not in found["said"], path
        assert found["mb"] < MOST_MB, path
        assert found["s"] < MOST_S, path


def progressive(height: int, width: int) -> bytes:
    flat = np.zeros((height, width, 3), np.uint8)
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return bytes(cv2.imencode(".jpg", flat, options)[1].tobytes())


LARGE = {
    "photograph.jpg": lambda: cv2.imencode(".jpg", np.zeros((8000, 9700, 3), np.uint8))[1].tobytes(),
    "progressive.jpg": lambda: progressive(6000, 9000),
    "screenshot.png": lambda: cv2.imencode(".png", np.zeros((8000, 10000, 3), np.uint8))[1].tobytes(),
    "photograph.webp": lambda: cv2.imencode(".webp", np.zeros((6000, 8000, 3), np.uint8), [64, 80])[1].tobytes(),
    "scan.bmp": lambda: cv2.imencode(".bmp", np.zeros((5000, 8500, 3), np.uint8))[1].tobytes(),
}
"""Images as large as they may be."""


@pytest.mark.parametrize("name", LARGE)
def test_the_largest_images_that_are_read_take_no_more(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(LARGE[name]())
    found = measured(path)
    assert found["shape"], found["said"]
    assert found["mb"] < MOST_MB
    assert found["s"] < MOST_S


def test_a_png_whose_pixels_are_a_bomb_ends_with_them(tmp_path: Path) -> None:
    plain = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    at = plain.index(b"IDAT") - 4
    body = b"IDAT" + zlib.compress(bytes(500_000_000), 9)
    bomb = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    path = tmp_path / "bomb.png"
    path.write_bytes(plain[:at] + bomb + plain[-12:])
    found = measured(path)
    assert found["mb"] < 50
    assert found["s"] < MOST_S
