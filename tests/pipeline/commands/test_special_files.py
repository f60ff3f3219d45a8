"""A FIFO or a device in place of a file of the workbench is refused at once, by every reader and in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calibration.ranges import load_ranges
from calibration.recipe import load_recipe
from edge_apps.errors import EdgeError
from edge_apps.images import open_images
from pipeline.benchmarking.measurement import load_measurement
from pipeline.checkpoints.load import read
from pipeline.data.label_file import read_labels
from pipeline.quantization.calibrate import load_calibration

READERS: dict[str, Callable[[Path], Any]] = {
    "ranges": load_ranges,
    "calibration": load_calibration,
    "recipe": load_recipe,
    "checkpoint": read,
    "measurement": load_measurement,
    "labels": read_labels,
    "images": open_images,
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", READERS)
def test_a_fifo_or_a_device_is_refused(name: str, tmp_path: Path) -> None:
    fifo = tmp_path / "file"
    os.mkfifo(fifo)
    for path, kind in ((fifo, "a FIFO"), (Path("/dev/zero"), "a device")):
        with pytest.raises(EdgeError, match=f"it is {kind}, not a file|neither a folder nor a file") as caught:
            READERS[name](path)
        assert caught.value.exit_status == 2
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "most"), [("measurement", 1_000_000), ("labels", 4_000_000), ("recipe", 256_000)])
def test_an_absurdly_large_file_is_not_read(name: str, most: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as stream:
        stream.truncate(10**11)  # sparse: it takes no room
    with pytest.raises(EdgeError, match=f"it has 100,000,000,000 bytes, and at most {most:,} are read"):
        READERS[name](path)


def test_an_image_of_a_folder_that_became_a_fifo_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "cat" / "1.jpg"
    image.parent.mkdir()
    image.write_bytes(b"\xff\xd8\xff")
    images = open_images(tmp_path)
    image.unlink()
    os.mkfifo(image)
    with pytest.raises(EdgeError, match="Cannot read image .* it is a FIFO, not a file"):
        images.image(0)
