"""How frames are got from a camera, one way per class; for the process that captures, which may hang or die of it."""

from __future__ import annotations

import errno
import http.client
import math
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import cv2

from edge_apps.camera.capture.csi import NO_TOOL, find_tool
from edge_apps.camera.capture.frames import now
from edge_apps.camera.capture.http_body import Body
from edge_apps.camera.capture.messages import Csi, Device, Request
from edge_apps.camera.capture.mjpeg import CUT_SHORT, Bytes, JpegStream, NoPicture, Part, StreamEnded, Unended
from edge_apps.camera.capture.uri import Uri
from edge_apps.children import die_with_parent
from edge_apps.images import Image, TooLargeImage, decode_unchecked

STILL_EVERY = 0.2
"""Seconds between two requests to a camera that answers each with one image."""

DAMAGED_INSIDE = "an image that is damaged inside"


class Lost(Exception):
    """The camera is not there, or not any more."""


class Hung(Lost):
    """The camera is there and says nothing."""


class Corrupt(Exception):
    """What came is no picture."""


@dataclass(frozen=True)
class Shot:
    """One frame as it arrived. ``decode`` makes uint8 ``[H, W, 3]`` RGB of it, or raises ``Corrupt``.

    ``decoded_ns``: what decoding took already, between ``born_ns`` and now. ``damage``: what it means if the decoder
    reports that data are missing.
    """

    captured_at: float
    born_ns: int
    decode: Callable[[], Image]
    decoded_ns: int = 0
    damage: str = DAMAGED_INSIDE


def shots(request: Request) -> Iterator[Shot]:
    """Frame after frame, the latest each time; ends by ``Lost`` or ``Hung``."""
    camera = request.camera
    if isinstance(camera, Device):
        return _from_opencv(_open_device(camera, request), request)
    if isinstance(camera, Csi):
        return _latest(_from_csi(camera, request), request.patience)
    uri = camera.uri()
    if uri.full.startswith("rtsp"):
        return _from_opencv(_open_rtsp(uri, request), request)
    return _latest(_from_http(uri, request.patience), request.patience)


def _open_device(device: Device, request: Request) -> cv2.VideoCapture:
    os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = str(math.ceil(request.patience))
    capture = cv2.VideoCapture(device.path, cv2.CAP_V4L2)
    if not capture.isOpened():
        raise Lost(_why_not(device.path))
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if request.size or request.fps:
        # Uncompressed, USB carries 640×480 at 30 frames a second and no more. Who cannot do MJPEG, refuses.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    if request.size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, request.size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, request.size[1])
    if request.fps:
        capture.set(cv2.CAP_PROP_FPS, request.fps)
    return capture


def _why_not(path: str) -> str:
    """What the kernel says to whom it does not let open a device; OpenCV keeps it for itself."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        group = " (only members of the group 'video' may: add this user to it)" if error.errno == errno.EACCES else ""
        return f"'{path}' cannot be opened: {error.strerror}{group}"
    return f"'{path}' gives no video, or another program uses it"


def _open_rtsp(uri: Uri, request: Request) -> cv2.VideoCapture:
    # Over TCP, since a lost packet greys half the picture; and nothing held back to smooth the stream.
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay"
    milliseconds = round(request.patience * 1000)
    limits = [
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds),
        *(cv2.CAP_PROP_N_THREADS, 1),  # several would each hold a frame back, and take cores from the network
    ]
    start = time.monotonic()
    capture = cv2.VideoCapture(uri.full, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        if time.monotonic() - start > request.patience:
            raise Hung(f"no video within {request.patience:g} s")
        raise Lost("no video from there")
    return capture


def _from_opencv(capture: cv2.VideoCapture, request: Request) -> Iterator[Shot]:
    def decode() -> Image:
        there, picture = capture.retrieve()
        if not there or picture is None or not picture.size:
            raise Corrupt("a frame that cannot be decoded")
        if picture.ndim == 2:  # a camera without colour
            return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)  # type: ignore[return-value]
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]

    is_device = isinstance(request.camera, Device)
    while True:
        asked, worked = time.monotonic(), time.thread_time_ns()
        if not capture.grab():
            if time.monotonic() - asked >= request.patience * 0.9:
                raise Hung(f"no frame for {request.patience:g} s")
            raise Lost("the stream ended")
        at, born = now()
        if is_device:
            age = _driver_age(capture.get(cv2.CAP_PROP_POS_MSEC), born)
            yield Shot(at - age / 1e9, born - age, decode)
        else:
            # FFmpeg waits for a frame and decodes it in one call and, by one thread, in this one: waiting costs no CPU.
            decoded = time.thread_time_ns() - worked
            yield Shot(at - decoded / 1e9, born - decoded, decode, decoded)


def _driver_age(milliseconds: float, now_ns: int) -> int:
    """How old the driver says that a frame is, in nanoseconds, by the clock of ``now_ns``; 0 where that is senseless.

    A frame that waited in the driver's queue is as old as it is, not as young as we are late.
    """
    age = now_ns - round(milliseconds * 1e6)
    return age if 0 <= age < 1_000_000_000 else 0


def _from_csi(camera: Csi, request: Request) -> Iterator[Part]:
    """Look for the program in this process, where nobody waits for it: asking it may take ten seconds."""
    tool = find_tool()
    if tool is None:
        raise Lost(NO_TOOL)
    return _from_pipe(tool.command(camera.number, request.size, request.fps))


def _from_pipe(words: tuple[str, ...]) -> Iterator[Part]:
    """Start a program that writes MJPEG, to its stdout or to ``{fd}``; it dies with us."""
    inside, outside = os.pipe()
    apart = any("{fd}" in word for word in words)  # else it writes to its stdout
    command = [word.replace("{fd}", str(outside)) for word in words]
    try:
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=None if apart else outside,  # None: where our own goes, which is listened to
            pass_fds=(outside,) if apart else (),
            preexec_fn=die_with_parent,  # the one other thread here waits for our own parent's end and holds no lock
        )
    except OSError as error:
        raise Lost(f"'{command[0]}' cannot be started: {error.strerror}") from error
    os.close(outside)
    return _written_by(program, inside)


def _written_by(program: subprocess.Popen[bytes], descriptor: int) -> Iterator[Part]:
    try:
        yield from JpegStream(Bytes(lambda count: os.read(descriptor, count)))
    except StreamEnded:
        name = Path(str(program.args[0])).name  # type: ignore[index]
        try:
            raise Lost(f"'{name}' ended with status {program.wait(1.0)}") from None
        except subprocess.TimeoutExpired:
            raise Lost(f"'{name}' closed its output") from None
    finally:
        program.kill()
        os.close(descriptor)


def _from_http(uri: Uri, patience: float) -> Iterator[Part]:
    """Ask once for a stream; again and again where each answer is one image."""
    client = _logged_in(uri)
    try:
        while True:
            asked = time.monotonic()
            with client.open(uri.without_user, timeout=patience) as response:
                yield from _answered(response)
            time.sleep(max(0.0, asked + STILL_EVERY - time.monotonic()))
    except Lost:
        raise
    except urllib.error.HTTPError as error:
        raise Lost(f"the server answered {error.code} {error.reason}") from None
    except TimeoutError:
        raise Hung(f"it sent nothing for {patience:g} s") from None
    except OSError as error:  # urllib.error.URLError is one
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            raise Hung(f"no answer within {patience:g} s") from None
        raise Lost(str(getattr(reason, "strerror", None) or reason)) from None
    except Exception as error:  # http.client's, for an answer that is no HTTP
        raise Lost(f"{type(error).__name__}: {error}") from None


def _answered(response: http.client.HTTPResponse) -> Iterator[Part]:
    """Give the images of one answer; return where it was a single one. Its headers are hints and nothing more."""
    boundary = str(response.headers.get_param("boundary") or "")
    body = Body(response)
    stream = JpegStream(Bytes(body.read), boundary.encode(errors="replace"))
    body.is_complete = lambda: stream.is_still
    try:
        yield from stream
    except StreamEnded:
        if stream.is_still:
            return
        if stream.images or stream.is_delimited:
            raise Lost("the server ended the stream") from None
        kind = response.headers.get("Content-Type", "unknown").partition(";")[0].strip()
        raise Lost(f"it sends no JPEG image (Content-Type: {kind})") from None
    except zlib.error as error:
        raise Lost(f"it sends damaged gzip data: {error}") from None


def _logged_in(uri: Uri) -> urllib.request.OpenerDirector:
    """A client that gives user and password, Basic or Digest, to this server alone and only if it asks."""
    if uri.user is None:
        return urllib.request.build_opener()
    known = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    known.add_password(None, urljoin(uri.without_user, "/"), uri.user, uri.password or "")
    return urllib.request.build_opener(
        urllib.request.HTTPBasicAuthHandler(known), urllib.request.HTTPDigestAuthHandler(known)
    )


def _latest(received: Iterator[Part], patience: float) -> Iterator[Shot]:
    receiver = Receiver(received)
    while True:
        at, born, part = receiver.next(patience)
        yield Shot(at, born, _decoder(part), damage=CUT_SHORT if isinstance(part, Unended) else DAMAGED_INSIDE)


class Receiver:
    """A thread that receives, so that a picture is as old as it is: while one is decoded, only the latest waits."""

    def __init__(self, received: Iterator[Part]) -> None:
        self._received = received
        self._arrived = threading.Condition()
        self._picture: tuple[float, int, Part] | None = None
        self._faults: deque[tuple[float, int, Part]] = deque(maxlen=1000)  # each one counts
        self._end: Exception | None = None
        threading.Thread(target=self._receive, name="receiver", daemon=True).start()

    def next(self, patience: float) -> tuple[float, int, Part]:
        """The latest part and when it came, each once; what is no picture does not get lost."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._picture or self._faults or self._end, patience)
            if self._faults:
                return self._faults.popleft()
            picture, self._picture = self._picture, None
        if picture is None:
            raise self._end or Hung(f"no picture for {patience:g} s")
        return picture

    def _receive(self) -> None:
        try:
            for part in self._received:
                with self._arrived:
                    if isinstance(part, NoPicture):
                        self._faults.append((*now(), part))
                    else:
                        self._picture = (*now(), part)
                    self._arrived.notify()
        except Exception as error:  # also what nobody foresaw: the process ends with it
            self._end = error
        with self._arrived:
            self._arrived.notify()


def _decoder(part: Part) -> Callable[[], Image]:
    def decode() -> Image:
        if isinstance(part, NoPicture):
            raise Corrupt(part.reason)
        try:
            return decode_unchecked(part.data if isinstance(part, Unended) else part)
        except TooLargeImage as error:
            raise Corrupt(f"a JPEG image that is too large: {error}") from None
        except ValueError:
            raise Corrupt("a JPEG image that cannot be decoded") from None

    return decode
