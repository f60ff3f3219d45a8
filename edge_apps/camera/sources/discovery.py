"""Which cameras this machine has, and whether one that is asked for can be one of them."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from edge_apps.camera.capture import csi, v4l2
from edge_apps.camera.capture.uri import Uri
from edge_apps.errors import BadInput, NotThere
from edge_apps.images import printable
from edge_apps.runtime import sysfs

SENSORS = ("unicam", "rp1-cfe", "tegra-video", "tegra-camrtc-ca")
"""Drivers of bare sensors: what such a node gives is not a picture yet, ``csi:N`` makes one of it."""

NO_CAMERAS = ("bcm2835-isp", "pispbe")
"""Drivers of a Raspberry Pi's image processor: nodes that give pictures, but of what a program feeds them."""

RESOLVED_WITHIN = 3.0
"""Seconds for the name of a host; without a network it may take longer, which is no mistake of anybody's."""

LIST = "'edge-camera sources' lists what this machine has."


@dataclass(frozen=True)
class Camera:
    """A video device: ``source`` to write after ``--source``; ``state`` says what is known of it, or what is wrong."""

    source: str
    node: str
    name: str
    formats: tuple[v4l2.Format, ...]
    state: str


def list_devices(root: Path = Path("/"), ioctl: v4l2.Ioctl | None = None) -> list[Camera]:
    """The video devices that Linux knows and that give pictures, by number; ``root`` holds ``sys`` and ``dev``."""
    found = []
    folder = root / "sys/class/video4linux"
    entries = folder.iterdir() if folder.is_dir() else ()
    numbered = [(int(match[1]), entry) for entry in entries if (match := re.fullmatch(r"video(\d+)", entry.name))]
    for number, entry in sorted(numbered):
        camera = _camera(number, entry, root, ioctl)
        if camera is not None:
            found.append(camera)
    return found


def check_device(path: Path) -> None:
    """Refuse what cannot become a camera by waiting for it; ``BadInput``."""
    try:
        is_device = stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        have = ", ".join(f"{camera.node} ({camera.name})" for camera in list_devices()) or "none"
        raise NotThere(f"No such camera: '{path}'. This machine has: {have}. Plug it in.") from None
    if not is_device:
        raise BadInput(f"'{path}' is no video device. {LIST}")
    try:
        device = v4l2.query(path)
    except OSError as error:
        if error.errno == errno.EACCES:
            raise BadInput(
                f"You may not open '{path}': add this user to the group 'video' ('sudo usermod -aG video $USER'), and "
                "log in again."
            ) from None
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            raise BadInput(f"'{path}' is no video device. {LIST}") from None
        return  # busy, or just being unplugged: that may pass
    if not _is_camera(device):
        raise BadInput(f"'{path}' gives no pictures ({device.card}, driver {device.driver}). {LIST}")


def check_host(uri: Uri) -> None:
    """Refuse a host that nobody knows; ``BadInput``. Without a network nothing can be said, and nothing is."""
    failure: list[OSError | UnicodeError] = []

    def resolve() -> None:
        try:
            socket.getaddrinfo(uri.host, uri.port)
        except (OSError, UnicodeError) as error:
            failure.append(error)

    asking = threading.Thread(target=resolve, daemon=True)
    asking.start()
    asking.join(RESOLVED_WITHIN)
    # Names without an address are EAI_NODATA, where the C library still knows that.
    unknown = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
    if failure and (isinstance(failure[0], UnicodeError) or failure[0].errno in unknown):
        raise NotThere(f"Unknown host '{printable(uri.host)}' in '{uri.shown}'. Write its name right, or its number.")


def _camera(number: int, entry: Path, root: Path, ioctl: v4l2.Ioctl | None) -> Camera | None:
    node = f"/dev/video{number}"
    name = printable(sysfs.text(entry / "name"))
    try:
        device = v4l2.query(root / node.lstrip("/"), ioctl)
    except OSError as error:
        if sysfs.text(entry / "index") not in ("", "0"):
            return None  # a further node of a camera is for its metadata
        said = os.strerror(error.errno) if error.errno else str(error)
        return Camera(f"usb:{number}", node, name, (), f"cannot be asked: {said}")
    if not _is_camera(device):
        return None
    sensor = device.driver in SENSORS
    state = "a bare sensor: use csi:N" if sensor else ""
    return Camera(f"usb:{number}", node, name or device.card, device.formats, state)


def _is_camera(device: v4l2.Device) -> bool:
    return device.captures and device.driver not in NO_CAMERAS


def csi_cameras(root: Path = Path("/")) -> tuple[csi.Tool | None, list[str] | None]:
    """The program for CSI cameras, and the sensors that it sees; None where it does not say."""
    tool = csi.find_tool(root)
    return tool, csi.list_cameras(tool) if tool else None
