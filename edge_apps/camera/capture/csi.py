"""Cameras on a ribbon cable: which program of this machine writes their pictures as MJPEG.

A Raspberry Pi has ``rpicam-vid`` (``libcamera-vid`` before 2024) or picamera2, which breaks under numpy 2 and is
therefore run by the system's own Python. A Jetson has ``nvarguscamerasrc`` for GStreamer, which pip's OpenCV lacks.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edge_apps.camera.capture import picamera2_mjpeg
from edge_apps.errors import NotThere

SIZE, FPS = (640, 480), 30.0
"""Without ``--size`` and ``--fps``: the networks here take 32 to 299 pixels."""

TIMEOUT = 10.0
"""Seconds for a program to say what it knows; libcamera starts slowly on an old Pi."""

PI_PROGRAMS = ("rpicam-vid", "libcamera-vid")

NO_TOOL = (
    "No program for CSI cameras on this machine. On a Raspberry Pi: 'sudo apt install rpicam-apps-lite' "
    "(or python3-picamera2); a Jetson has nvarguscamerasrc for gst-launch-1.0 from its JetPack"
)

SYSTEM_PYTHON = "usr/bin/python3"
PICAMERA2 = "usr/lib/python3/dist-packages/picamera2"


@dataclass(frozen=True)
class Tool:
    """A way to CSI cameras: ``name`` for people, ``program`` to start."""

    name: str
    program: str

    def command(self, camera: int, size: tuple[int, int] | None, fps: float | None) -> tuple[str, ...]:
        """What writes MJPEG of camera number ``camera`` to stdout, or to the descriptor ``{fd}``."""
        width, height = size or SIZE
        rate = fps or FPS
        if self.name in PI_PROGRAMS:
            return _rpicam(self.program, camera, width, height, rate)
        if self.name == "picamera2":
            script = str(Path(picamera2_mjpeg.__file__))
            # Isolated from this program's PYTHONPATH, whose numpy is not the one that picamera2 was built against.
            return (self.program, "-I", script, str(camera), str(width), str(height), f"{rate:g}")
        return _argus(self.program, self.name.endswith("nvjpegenc"), camera, width, height, rate)


def find_tool(root: Path = Path("/")) -> Tool | None:
    """The first of them that this machine has."""
    for name in PI_PROGRAMS:
        if program := shutil.which(name):
            return Tool(name, program)
    if (root / PICAMERA2).is_dir() and (root / SYSTEM_PYTHON).exists():
        return Tool("picamera2", str(root / SYSTEM_PYTHON))
    launch = shutil.which("gst-launch-1.0")
    if launch and _has_element("nvarguscamerasrc"):
        return Tool(f"nvarguscamerasrc and {'nvjpegenc' if _has_element('nvjpegenc') else 'jpegenc'}", launch)
    return None


def check_tool() -> None:
    """Refuse a machine that has none of them; ``NotThere`` says what to install."""
    if find_tool() is None:
        raise NotThere(f"{NO_TOOL}.")


def list_cameras(tool: Tool) -> list[str] | None:
    """The sensors in the order of their numbers; None where the tool does not say."""
    if tool.name not in PI_PROGRAMS:
        return None
    said = _answer(tool.program, "--list-cameras")
    # "0 : imx219 [3280x2464 10-bit RGGB] (/base/soc/i2c0mux/i2c@1/imx219@10)"
    return None if said is None else [match[1] for match in re.finditer(r"(?m)^\s*\d+\s*:\s*(\S+)", said)]


def _rpicam(program: str, camera: int, width: int, height: int, fps: float) -> tuple[str, ...]:
    return (
        *(program, "--camera", str(camera), "--codec", "mjpeg", "--width", str(width), "--height", str(height)),
        *("--framerate", f"{fps:g}", "--timeout", "0", "--nopreview", "--flush", "--verbose", "0", "--output", "-"),
    )


def _argus(program: str, hardware: bool, camera: int, width: int, height: int, fps: float) -> tuple[str, ...]:
    """To a descriptor of its own: Argus writes what it has to say to stdout."""
    rate = f"{round(fps * 1000)}/1000"
    memory = f"video/x-raw(memory:NVMM),width={width},height={height},framerate={rate},format=NV12"
    encode = ("nvjpegenc",) if hardware else ("nvvidconv", "!", "video/x-raw,format=I420", "!", "jpegenc")
    source = ("nvarguscamerasrc", f"sensor-id={camera}", "!", memory)
    return (program, "-q", *source, "!", *encode, "!", "fdsink", "fd={fd}", "sync=false")


def _has_element(name: str) -> bool:
    inspect = shutil.which("gst-inspect-1.0")
    return inspect is not None and _answer(inspect, "--exists", name) is not None


def _answer(*command: str) -> str | None:
    """What a program says; None where it fails or hangs."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout + done.stderr
