"""Small files of the kernel, as bytes that a board really has."""

from pathlib import Path

import pytest

from edge_apps.runtime.sysfs import text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"54768\n", "54768"),
        (b"Raspberry Pi 4 Model B Rev 1.4\0", "Raspberry Pi 4 Model B Rev 1.4"),
        (b"raspberrypi,4-model-b\0brcm,bcm2711\0", "raspberrypi,4-model-b\0brcm,bcm2711"),
        (b"", ""),
        (b"caf\xe9\n", "caf\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_the_ends_are_taken_off(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "x").write_bytes(data)
    assert text(tmp_path / "x") == says


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert text(tmp_path / "none") == text(tmp_path) == ""
