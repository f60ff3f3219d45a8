"""What the process that captures is asked for. It travels over a pipe: passwords are in no command line."""

from __future__ import annotations

import msgspec

from edge_apps.camera.capture.uri import Uri, parse_uri


class Device(msgspec.Struct, frozen=True, tag="v4l2"):
    """A camera that Linux drives: ``/dev/video0``."""

    path: str


class Network(msgspec.Struct, frozen=True, tag="network"):
    """A network camera by its whole address, with user and password."""

    address: str

    def uri(self) -> Uri:
        """The address, taken apart."""
        return parse_uri(self.address)


class Csi(msgspec.Struct, frozen=True, tag="csi"):
    """A camera on a ribbon cable, by its number."""

    number: int


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A live source. ``size`` (width, height) and ``fps`` are wishes; ``patience`` in seconds of no frame at all."""

    camera: Device | Network | Csi
    size: tuple[int, int] | None = None
    fps: float | None = None
    degrees: int = 0
    mirror: bool = False
    patience: float = 5.0


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the process that captures has to say besides frames.

    ``kind``: "corrupt" (a frame that was none), "differs" (not the size or rate that was asked for), and as the last
    word "lost" or "hung".
    """

    kind: str
    at: float
    reason: str
