"""Every test of this room runs fake exported files."""

import pytest


@pytest.fixture(autouse=True)
def run_fake_files(opened: None, fake_targets: None) -> None:
    """Answers come from ``fake_files.py``."""
