"""The emulated boards: made from Debian's packages and the real wheels, or a loud skip where those cannot be had."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # board.py is also a program; its modules find each other as one

from board import CORES, Board
from debian_packages import UnavailableError
from kit import Kit, default_folder


@pytest.fixture(scope="session")
def kit() -> Kit:
    """Made in under a minute where the network is fast; anything but unavailable packages is a failure."""
    try:
        kit = Kit(default_folder())
        kit.root()
        kit.qemu()
        kit.native()
    except UnavailableError as error:
        pytest.skip(f"NOT RUN: nothing was tried on arm64, Debian packages cannot be had here: {error}")
    return kit


@pytest.fixture(
    scope="session",
    params=[pytest.param(core, marks=[pytest.mark.long] if core == "cortex-a53" else []) for core in CORES],
)
def board(request: pytest.FixtureRequest, kit: Kit) -> Board:
    """Each processor in turn."""
    return Board(kit, request.param)
