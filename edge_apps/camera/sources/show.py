"""What ``edge-camera sources`` says: the cameras of this machine, and the sources that every machine has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.text import Text

from edge_apps.camera.capture import csi, v4l2
from edge_apps.camera.sources.discovery import Camera, csi_cameras, list_devices
from edge_apps.console import Line, Part, table
from edge_apps.json_text import indented

ALWAYS = (
    ("rtsp://HOST/PATH", "a network camera"),
    ("http://HOST/PATH", "a network camera that sends MJPEG; also https://"),
    ("video:FILE", "a video file"),
    ("image:FILE", "an image"),
    ("folder:PATH", "every image below a folder or in a .tar"),
    ("PATH", "any of these three, as its content says"),
    ("test-pattern", "colours that move"),
)


@dataclass(frozen=True)
class Sources:
    """Cameras that Linux drives, and the way to CSI cameras with what it sees (None: it does not say)."""

    devices: list[Camera]
    csi_tool: csi.Tool | None
    csi_cameras: list[str] | None


def list_sources(root: Path = Path("/"), ioctl: v4l2.Ioctl | None = None) -> Sources:
    """Look; ``root`` holds ``sys``, ``dev`` and ``usr``."""
    return Sources(list_devices(root, ioctl), *csi_cameras(root))


def as_parts(found: Sources) -> Iterator[Part]:
    """Return the table source, what it is, formats; then what is missing, for people."""
    shown = table()
    for heading in ("source", "what it is", "formats"):
        shown.add_column(heading, overflow="fold")
    for source, what, formats in _rows(found):
        shown.add_row(Text(source), Text(what), Text(formats))
    yield shown
    if not found.devices:
        yield Line("No video device: no USB camera is plugged in, or its driver is missing.", wraps=True)
    if found.csi_tool is None:
        yield Line("No program for CSI cameras (rpicam-vid, picamera2, or nvarguscamerasrc).", wraps=True)


def as_json(found: Sources) -> str:
    """Return one document for programs."""
    document = {
        "devices": [asdict(camera) for camera in found.devices],
        "csi": None if found.csi_tool is None else {"tool": found.csi_tool.name, "cameras": found.csi_cameras},
        "always": [{"source": source, "what": what} for source, what in ALWAYS],
    }
    return indented(document, 2).decode()


def _rows(found: Sources) -> list[tuple[str, str, str]]:
    rows = []
    for camera in found.devices:
        what = f"{camera.name} ({camera.node})" + (f", {camera.state}" if camera.state else "")
        rows.append((camera.source, what, "; ".join(map(_format, camera.formats))))
    return [*rows, *_csi_rows(found), *((source, what, "") for source, what in ALWAYS)]


def _csi_rows(found: Sources) -> list[tuple[str, str, str]]:
    tool, cameras = found.csi_tool, found.csi_cameras
    if tool is None:
        return []
    if cameras is None:
        return [("csi:N", f"a CSI camera, by {tool.name}", "")]
    if not cameras:
        return [("csi:N", f"{tool.name} is there, and sees no camera", "")]
    return [(f"csi:{number}", f"{name}, by {tool.name}", "") for number, name in enumerate(cameras)]


def _format(kind: v4l2.Format) -> str:
    """``MJPG 160x120 … 1920x1080``: the sizes in the device's own order, without those in between."""
    sizes = kind.sizes
    return " ".join([kind.name, " … ".join(sizes if len(sizes) < 3 else (sizes[0], sizes[-1]))]).strip()
