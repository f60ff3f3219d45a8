"""A board that is not there: programs for arm64 on QEMU, as one of the boards' processors.

By hand, from the root of the repository::

    python tests/arm64/board.py [--core cortex-a72] [--site litert|tflite] run --model BUNDLE --source folder:PICTURES

is ``edge-camera run …`` on a Raspberry Pi 4 with its ai-edge-litert (or tflite-runtime) and executorch wheels: the same
instructions and the same Debian, not the same speed. A core that lacks an instruction kills the program that uses it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from debian_packages import UnavailableError
from kit import PYTHON, REPOSITORY, Kit, default_folder

CORES = {"cortex-a53": "Raspberry Pi 3", "cortex-a72": "Raspberry Pi 4", "cortex-a76": "Raspberry Pi 5"}
"""Never ``max``: that is a processor with every extension there is, which no board has."""

PATIENCE = 300.0
"""Seconds for one program; it takes 5 on an idle machine."""


@dataclass(frozen=True)
class Board:
    """One processor and what is installed on it."""

    kit: Kit
    core: str

    def command(self, site: str, arguments: Sequence[str]) -> list[str]:
        """Python on the board with these arguments: an empty environment, and no subprocess can be started in it."""
        sites = [self.kit.site(site), self.kit.executorch(), REPOSITORY]
        settings = {
            "PATH": "/usr/bin",
            "HOME": "/nonexistent",
            "LC_ALL": "C.UTF-8",
            "PYTHONNOUSERSITE": "1",
            "PYTHONPATH": ":".join(map(str, sites)),
            "PYTHONPYCACHEPREFIX": str(self.kit.folder / "pycache"),
            "XDG_CACHE_HOME": str(self.kit.native()),
            "XDG_STATE_HOME": str(self.kit.folder / "state"),  # the id of the board
        }
        root = self.kit.root()
        python = [str(root / "usr" / "bin" / f"python{PYTHON}"), *arguments]
        environment = ["env", "-i", *(f"{name}={value}" for name, value in settings.items())]
        return [*environment, str(self.kit.qemu()), "-cpu", self.core, "-L", str(root), *python]

    def run(self, site: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return run(self.command(site, arguments))


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; ``AssertionError`` with what it said where it failed."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 0, f"exit status {ended.returncode} of {' '.join(command)}\n{ended.stdout}{ended.stderr}"
    return ended


def main() -> int:
    """``edge-camera`` with these arguments on the board."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", choices=CORES, default="cortex-a72")
    parser.add_argument("--site", choices=("litert", "tflite"), default="litert")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of edge-camera")
    chosen = parser.parse_args()
    program = [
        "-c",
        "from edge_apps.camera.commands.main import main; main(prog_name='edge-camera')",
        *chosen.arguments,
    ]
    kit = Kit(default_folder())
    try:
        command = Board(kit, chosen.core).command(chosen.site, program)
    except UnavailableError as error:
        print(f"Error: Debian packages cannot be had here: {error}", file=sys.stderr)
        return 1
    for part, seconds in kit.seconds.items():
        print(f"Made {part} in {seconds:.0f} s.", file=sys.stderr)
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
