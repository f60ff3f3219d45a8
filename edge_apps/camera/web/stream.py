"""Answers without an end: the video as MJPEG, and server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator

import msgspec
from starlette.types import Receive, Scope, Send

from edge_apps.camera.live.state import LiveState, Shown, labels_of

STREAMS = 24
"""Viewers of the video at once, and as many of the events."""

LABELS_EVERY = 0.2
"""Seconds between two messages with labels."""

STATE_EVERY = 5
"""Messages with labels from one with the whole state to the next."""

REPEAT_AFTER = 0.3
"""Seconds without a new picture after which the last one is sent once more."""

BOUNDARY = "edge-camera-frame"
MJPEG = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
MULTIPART = f"multipart/mixed; boundary={BOUNDARY}"
SERVER_SENT = "text/event-stream"


class Places:
    """So many at once."""

    def __init__(self, most: int = STREAMS) -> None:
        self._free = most

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """One of them while the block runs; ``is_full`` was asked before."""
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

    @property
    def is_full(self) -> bool:
        """Whether there is none left."""
        return self._free <= 0


class Bell:
    """Wakes every coroutine that waits for it."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Until it rings next."""
        await self._next.wait()

    def ring(self) -> None:
        """In the thread of the event loop."""
        rung, self._next = self._next, asyncio.Event()
        rung.set()


class Endless:
    """An answer of parts, sent as they come until the viewer goes; a part waits until the one before it was taken."""

    def __init__(self, parts: AsyncGenerator[bytes, None], content_type: str, places: Places) -> None:
        self._parts, self._content_type, self._places = parts, content_type, places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        headers = [(b"content-type", self._content_type.encode()), (b"connection", b"close")]
        with self._places.take():
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            sending = asyncio.ensure_future(self._send_all(send))
            going = asyncio.ensure_future(_disconnected(receive))
            try:
                await asyncio.wait({sending, going}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sending.cancel()
                going.cancel()
                ended = await asyncio.gather(sending, return_exceptions=True)
        if isinstance(ended[0], Exception):
            raise ended[0]

    async def _send_all(self, send: Send) -> None:
        async with contextlib.aclosing(self._parts):  # or it would count as a viewer until memory is tidied up
            async for part in self._parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def pictures(live: LiveState, bell: Bell) -> AsyncGenerator[bytes, None]:
    """The latest JPEG, again and again: who is slow gets the next one that there is by then."""
    yield f"--{BOUNDARY}\r\n".encode()
    shown, is_last_word = 0, True
    with live.preview.watch():
        while True:
            jpeg = live.preview.jpeg
            if jpeg is not None and jpeg[0] != shown:
                shown, is_last_word = jpeg[0], False
                yield _part(jpeg[1])
            elif is_last_word:
                await bell.wait()
            elif not await _rings(bell, REPEAT_AFTER) and jpeg is not None:
                is_last_word = True  # a browser shows a part when the next one begins: a still picture would be late
                yield _part(jpeg[1])


async def frames(live: LiveState, bell: Bell) -> AsyncGenerator[bytes, None]:
    """Yield the latest frame again and again: what is said of it as JSON (``Labels``), then its JPEG.

    Both come from one connection and in pairs, so that the page never shows the labels of one frame beside the image
    of another.
    """
    yield f"--{BOUNDARY}\r\n".encode()
    sent = 0
    with live.preview.watch():
        while True:
            jpeg = live.preview.jpeg
            if jpeg is None or jpeg[0] == sent:
                await bell.wait()
                continue
            sent, data, shown = jpeg
            yield _part(msgspec.json.encode(labels_of(shown)), "application/json") + _part(data)


async def picture(live: LiveState, bell: Bell, patience: float = 2.0) -> tuple[bytes, Shown] | None:
    """The latest frame as a JPEG, and the frame; None where there is none yet, or it cannot be had in time."""
    wanted = live.preview.offered
    if not wanted:
        return None
    until = time.monotonic() + patience
    with live.preview.watch():
        while True:
            jpeg = live.preview.jpeg
            if jpeg is not None and jpeg[0] >= wanted:
                return jpeg[1], jpeg[2]
            if not await _rings(bell, until - time.monotonic()):
                return None


async def _rings(bell: Bell, seconds: float) -> bool:
    """Whether it does within so many seconds."""
    try:
        await asyncio.wait_for(bell.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


def _part(data: bytes, content_type: str = "image/jpeg") -> bytes:
    """One part, and the mark where the next one begins."""
    head = f"Content-Type: {content_type}\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data + f"\r\n--{BOUNDARY}\r\n".encode()


class Bulletin:
    """What the events say, encoded once for all viewers."""

    def __init__(self, live: LiveState) -> None:
        self._live = live
        self._state: tuple[float, bytes] = (-1e9, b"")
        self._labels: tuple[int, bytes] = (0, b"")

    def state(self) -> bytes:
        """At most half a second old."""
        now = time.monotonic()
        if now - self._state[0] > 0.5:
            self._state = (now, _event("state", msgspec.json.encode(self._live.state())))
        return self._state[1]

    def labels(self) -> tuple[int, bytes]:
        """Number of the frame, which tells whether they are new; 0 and nothing before the first."""
        number = self._live.preview.offered
        if number != self._labels[0]:
            self._labels = (number, _event("labels", msgspec.json.encode(self._live.labels())))
        return self._labels

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """For one viewer."""
        yield b"retry: 2000\n\n"
        last = 0
        while True:
            yield self.state()
            for _ in range(STATE_EVERY):
                number, message = self.labels()
                if number != last:
                    last = number
                    yield message
                await asyncio.sleep(LABELS_EVERY)


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
