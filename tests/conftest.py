"""Fixtures that every room's tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures that may not live in this repository."""
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip("the shared pictures are not on this machine: this test did NOT run")
    return data
