"""Where frames come from, as users write it: ``clip.mp4``, ``folder:PATH``, ``usb:0``, ``rtsp://…``

A source is iterated once. It gives frames in order, and in their place a ``Skipped`` for what could not be read:
one bad picture must not end a program that runs for weeks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from edge_apps.camera.capture.csi import check_tool
from edge_apps.camera.capture.frames import Event, Frame, Item, Skipped, Source
from edge_apps.camera.capture.messages import Csi, Device, Network, Request
from edge_apps.camera.capture.turn import Turn
from edge_apps.camera.capture.uri import hide_from_process_list, parse_uri
from edge_apps.camera.sources.discovery import check_device, check_host
from edge_apps.camera.sources.files import Folder, ImageFile, NotAVideo, Video
from edge_apps.camera.sources.kind import (
    KINDS,
    is_still,
    kind_of_file,
    looks_like_path,
    path_from,
    split_source,
    unread_image,
)
from edge_apps.camera.sources.live_source import LiveSource
from edge_apps.camera.sources.pattern import TestPattern
from edge_apps.errors import BadInput
from edge_apps.images import list_pictures, printable
from edge_apps.suggestions import nearest

__all__ = [
    "Event",
    "Frame",
    "Item",
    "Skipped",
    "Source",
    "SourceOptions",
    "TestPattern",
    "parse_size",
    "parse_source",
]

HANG_AFTER = 5.0
"""Seconds without a frame after which a camera is taken to hang."""


STALE_AFTER = 10.0
"""Seconds without a frame after which a camera is not healthy; a slow network on a slow board takes one or two."""


@dataclass(frozen=True)
class SourceOptions:
    """How a source is read; what has no meaning for it is refused, never ignored.

    ``size`` (width, height) and ``fps`` are wishes to a camera. ``rotate`` is in degrees, clockwise; ``mirror``
    exchanges left and right after that. ``hang_after`` is in seconds.
    """

    loop: bool = False
    every_frame: bool = False
    size: tuple[int, int] | None = None
    fps: float | None = None
    rotate: int = 0
    mirror: bool = False
    hang_after: float | None = None
    wait_for_source: bool = False

    def turn(self) -> Turn:
        """What is done to every picture."""
        return Turn(self.rotate, self.mirror)

    def given(self) -> list[str]:
        """The fields that say something, as one writes them on the command line."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]


NO_OPTIONS = SourceOptions()

ALWAYS = ("rotate", "mirror")
LIVE = ("hang_after", "wait_for_source")
CAMERA = ("size", "fps")

MEANINGS = {
    "folder": (*ALWAYS, "loop"),
    "image": (*ALWAYS, "loop"),
    "video": (*ALWAYS, "loop", "every_frame"),
    "test-pattern": (*ALWAYS, *CAMERA),
    "usb": (*ALWAYS, *CAMERA, *LIVE),
    "v4l2": (*ALWAYS, *CAMERA, *LIVE),
    "csi": (*ALWAYS, *CAMERA, *LIVE),
    "rtsp": (*ALWAYS, *LIVE),
    "http": (*ALWAYS, *LIVE),
    "https": (*ALWAYS, *LIVE),
}
"""Options that each kind of source takes."""

REASONS = {
    "loop": "it never ends",
    "every_frame": "only a video file drops frames, and only a file can keep them",
    "size": "its pictures are as large as they are",
    "fps": "it has a pace of its own",
    "hang_after": "it is no camera that could hang",
    "wait_for_source": "it is there, or is not",
}

IMAGE_FORMATS = "JPEG, PNG, WebP or BMP"

KNOWN = (
    "the path of a video, of an image, or of a folder or .tar of images; test-pattern; a camera: "
    "0, 1, … (or usb:N), /dev/videoN, csi:N, rtsp://…, http://…"
)

LARGEST_SIDE, FASTEST = 8192, 1000.0


def parse_source(text: str, options: SourceOptions = NO_OPTIONS) -> Source:
    """Make a source of what a user wrote. A password in it is hidden from here on, also in the list of processes.

    Raises:
        BadInput: an unknown kind, an option without meaning, or a path that holds nothing to show.
        NotThere: a camera that is not there (unless ``wait_for_source``).
    """
    kind, rest = split_source(text)
    if not kind:
        raise _unknown(text)
    if kind in NETWORK and not rest.startswith("//"):
        raise BadInput(f"The address does not begin with {kind}://. Write {kind}://HOST/PATH.")
    _check(kind, options)
    if kind in NETWORK:
        return _network(text, options)
    if kind == "test-pattern":
        if rest or ":" in text:
            raise BadInput(f"'{printable(text)}': the test pattern takes no argument; write 'test-pattern'.")
        return TestPattern(options.size or (640, 480), options.fps, options.turn())
    try:
        return _OF_A_NAME[kind](kind, rest, options)
    except NotAVideo as error:
        _refuse_unread(_path(kind, rest))
        if rest != text:
            raise
        raise BadInput(f"{error} Nor is it an image ({IMAGE_FORMATS}) or a .tar of images.") from error


def stale_after(options: SourceOptions) -> float:
    """Seconds of silence that are no illness: a slow camera, or one that may take its time, is given more."""
    return max(STALE_AFTER, 2 * (options.hang_after or 0.0), _slow(options))


def _slow(options: SourceOptions) -> float:
    """Seconds that three frames take, where somebody said how many a second there are."""
    return 3 / options.fps if options.fps else 0.0


def takes(text: str, option: str) -> bool:
    """Whether an option has a meaning for the source that a user wrote."""
    return option in MEANINGS.get(split_source(text)[0], ())


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of ``640x480``; ``BadInput`` for anything else."""
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(16 <= side <= LARGEST_SIDE for side in size):
        raise BadInput(f"The size '{text}' is not WIDTHxHEIGHT, as 640x480, with sides of 16 to {LARGEST_SIDE} pixels.")
    return size


def _check(kind: str, options: SourceOptions) -> None:
    for option in options.given():
        if option not in MEANINGS[kind]:
            raise BadInput(
                f"`{option}` has no meaning for {_NAMES.get(kind, kind)}: {_why(kind, option)}. Leave it out."
            )
    if options.rotate not in (0, 90, 180, 270):
        raise BadInput(f"`rotate` is {options.rotate}; choose 0, 90, 180 or 270.")
    if options.fps is not None and not 0 < options.fps <= FASTEST:
        raise BadInput(f"`fps` is {options.fps:g}; choose a number above 0, up to {FASTEST:g}.")
    if options.hang_after is not None and not 0.5 <= options.hang_after <= 3600:
        raise BadInput(f"`hang_after` is {options.hang_after:g} s; choose 0.5 to 3600.")


def _why(kind: str, option: str) -> str:
    if option in CAMERA and kind in NETWORK:
        return "that is set in the camera itself"
    if option == "every_frame" and kind == "folder":
        return "every picture of a folder is classified"
    return REASONS[option]


def _folder(kind: str, rest: str, options: SourceOptions) -> Source:
    pictures = list_pictures(_path(kind, rest))
    return Folder(pictures, printable(f"{kind}:{rest}"), loop=options.loop, turn=options.turn())


def _image(kind: str, rest: str, options: SourceOptions) -> Source:
    path = _path(kind, rest)
    if not path.is_file():
        raise BadInput(f"No such image file: '{printable(str(path))}'.")
    if kind_of_file(path) != "image":
        _refuse_unread(path)
        raise BadInput(f"'{printable(str(path))}' is not a {IMAGE_FORMATS} image.")
    return Folder(ImageFile(path), printable(f"{kind}:{rest}"), loop=options.loop, turn=options.turn())


def _video(kind: str, rest: str, options: SourceOptions) -> Source:
    path, text = _path(kind, rest), printable(f"{kind}:{rest}")
    if is_still(path):
        _refuse_unread(path)
    return Video(path, text, loop=options.loop, every_frame=options.every_frame, turn=options.turn())


def _refuse_unread(path: Path) -> None:
    """``BadInput`` where the file is an image in a format that is not read, by the format's name."""
    if path.is_file() and (name := unread_image(path)) is not None:
        raise BadInput(f"'{printable(str(path))}' is an image in {name} format: convert it to JPEG or PNG.")


def _device(kind: str, rest: str, options: SourceOptions) -> Source:
    path = Path(f"/dev/video{_number(kind, rest)}") if kind == "usb" else _path(kind, rest)
    if not options.wait_for_source:
        check_device(path)
    return LiveSource(printable(f"{kind}:{rest}"), lambda: _request(Device(str(path.absolute())), options))


def _csi(kind: str, rest: str, options: SourceOptions) -> Source:
    number = _number(kind, rest)
    if not options.wait_for_source:
        check_tool()
    return LiveSource(f"{kind}:{number}", lambda: _request(Csi(number), options))


def _network(text: str, options: SourceOptions) -> Source:
    uri = parse_uri(text)
    hide_from_process_list(uri)
    if not options.wait_for_source:
        check_host(uri)
    return LiveSource(uri.shown, lambda: _request(Network(uri.full), options))


def _request(camera: Csi | Device | Network, options: SourceOptions) -> Request:
    return Request(
        camera=camera,
        size=options.size,
        fps=options.fps,
        degrees=options.rotate,
        mirror=options.mirror,
        patience=options.hang_after or max(HANG_AFTER, _slow(options)),
    )


def _path(kind: str, rest: str) -> Path:
    if not rest:
        raise BadInput(f"'{kind}:' names no path: write {kind}:PATH.")
    return path_from(Path(), rest)


def _number(kind: str, rest: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", rest):
        raise BadInput(f"'{printable(f'{kind}:{rest}')}' names no camera: write {kind}:0, {kind}:1 …")
    return int(rest)


def _unknown(text: str) -> BadInput:
    """Explain that there is no such source. What follows a colon or an @ may be a password and is not repeated."""
    kind = re.split("[:@]", text)[0]
    meant = nearest(kind, KINDS)
    camera = re.fullmatch(r"(?i)(?:usb|video|cam(?:era)?|webcam)[ :_-]?([0-9]{1,3})", text)
    address = re.fullmatch(r"((?:[0-9]{1,3}[.]){3}[0-9]{1,3}:[0-9]{2,5})(?:/.*)?", text)
    if camera:
        meant = f"usb:{camera[1]}"
    elif address:
        meant = f"http://{address[1]}/…"
    hint = "" if meant is None else f" Did you mean '{meant}'?"
    if os.path.exists(text):  # noqa: PTH110 - unlike Path.exists, False for a name that no file can have
        return BadInput(f"'{printable(text)}' is a FIFO or another special file, not a video, an image or a folder.")
    if looks_like_path(text):
        return BadInput(f"No such file, folder or camera: '{printable(text)}'.{hint} Known: {KNOWN}.")
    return BadInput(f"Unknown source '{printable(kind)}'.{hint} Known: {KNOWN}.")


_OF_A_NAME: dict[str, Callable[[str, str, SourceOptions], Source]] = {
    "folder": _folder,
    "image": _image,
    "video": _video,
    "usb": _device,
    "v4l2": _device,
    "csi": _csi,
}

NETWORK = ("rtsp", "http", "https")

_NAMES = {
    "folder": "a folder",
    "image": "an image",
    "video": "a video",
    "test-pattern": "the test pattern",
    "usb": "a USB camera",
    "v4l2": "a camera",
    "csi": "a CSI camera",
    "rtsp": "a network camera",
    "http": "a network camera",
    "https": "a network camera",
}
