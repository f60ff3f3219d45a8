"""A place to write into, and an export of the small checkpoint that takes no time."""

# ruff: noqa: ARG001 - fixtures that make the small family and the fake target known are asked for, not used

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder to export into; afterwards nothing half-written is in it."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


@pytest.fixture
def export(
    pipeline: Run,
    fake_family: Any,
    small_family: Any,
    small_checkpoint: Path,
    small_pictures: Path,
    place: Path,
) -> Run:
    """Export the small checkpoint to the fake target; arguments are added, ``checkpoint`` and ``data`` replaced."""

    def run(*more: Any, checkpoint: Any = small_checkpoint, data: Any = small_pictures, out: Any = place / "b") -> Any:
        given = ["--data", data, "--target", "fake", "--precision", "fp32", "--calibration-size", 8, "--out", out]
        return pipeline("export", checkpoint, *given, *more)

    return run


@pytest.fixture
def pictures(small_pictures: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(small_pictures, tmp_path / "pictures"))
