"""The process that captures: camera → decode → turn → shared memory. A driver that hangs or crashes takes only this.

Started by ``process.py``: what to capture comes on stdin, one line of JSON. It ends when stdin is closed, and
with its parent. Libraries write to a pipe of its own, in which damaged pictures are recognised, and reasons found.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from edge_apps.camera.capture.frame_slot import Writer
from edge_apps.camera.capture.grabbers import Corrupt, Hung, Lost, Shot, shots
from edge_apps.camera.capture.messages import Network, Request, Said
from edge_apps.camera.capture.turn import Turn
from edge_apps.chatter import SHOW
from edge_apps.children import die_with_parent
from edge_apps.errors import first_line
from edge_apps.images import Image, printable

DAMAGED = re.compile(r"(?i)premature end|error while decoding|concealing")
"""What libjpeg and FFmpeg write when they make a picture up from what is left of it."""

FFMPEG = re.compile(r"\[(\w+) @ 0x[0-9a-f]+\]")
"""What FFmpeg puts before its lines: a part of itself, and an address that is of no use to anybody."""

CORRUPT_EVERY = 0.5
"""Seconds between two words about corrupt frames, however many there are."""

RATE_WINDOW = 3.0
"""Seconds over which the frame rate is measured before it is held against the one that was asked for."""

RATE_TOLERANCE = 0.1

LONGEST_REASON = 300
"""Characters: a message must fit into a pipe in one piece (4,096 bytes)."""


class Overheard:
    """What this process and those it starts write to stdout and stderr. Nobody who writes there ever waits.

    Where the environment asks for libraries' chatter it goes on to the user, ``scrub`` having taken passwords out.
    """

    def __init__(self, scrub: Callable[[str], str]) -> None:
        self._scrub = scrub
        self._original = os.dup(2)
        self._read, write = os.pipe()
        for end in (self._read, write):
            os.set_blocking(end, False)
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)

    def lines(self) -> list[str]:
        """What came since the last call."""
        text = b""
        with suppress(BlockingIOError):
            while len(text) < 2**20:
                text += os.read(self._read, 65536)
        lines = [self._scrub(line).strip() for line in text.decode(errors="replace").splitlines()]
        if lines and os.environ.get(SHOW) == "1":
            with suppress(OSError):
                os.write(self._original, "".join(f"{line}\n" for line in lines).encode())
        return [line for line in lines if line]


class Capture:
    """Captures as ``request`` says; ``tell`` takes what there is to say, None for a frame that is in the slot."""

    def __init__(self, request: Request, writer: Writer, tell: Callable[[Said | None], None]) -> None:
        self._request, self._writer, self._tell = request, writer, tell
        self._turn = Turn(request.degrees, request.mirror)
        camera = request.camera
        self._scrub = camera.uri().scrub if isinstance(camera, Network) else str
        self._overheard = Overheard(self._scrub)
        self._corrupt, self._corrupt_told, self._corrupt_reason = 0, 0.0, ""
        self._frames, self._first = 0, 0.0

    def run(self) -> None:
        """Until the camera is lost: that is the last word."""
        try:
            for shot in shots(self._request):
                self._take(shot)
        except Lost as error:
            said = [FFMPEG.sub(r"\1:", line) for line in self._overheard.lines()]  # the last is most often the reason
            self._say("hung" if isinstance(error, Hung) else "lost", f"{error}{f' ({said[-1]})' if said else ''}")
        except Exception as error:
            self._say("lost", f"{type(error).__name__}: {first_line(error)}")

    def _take(self, shot: Shot) -> None:
        start = time.perf_counter_ns()
        try:
            image = shot.decode()
            if any(DAMAGED.search(line) for line in self._overheard.lines()):
                raise Corrupt(shot.damage)
        except Corrupt as error:
            self._corrupt += 1
            self._corrupt_reason = str(error)
        else:
            self._hand_over(shot, image, start)
        if self._corrupt and time.monotonic() - self._corrupt_told >= CORRUPT_EVERY:
            others = f", the last of {self._corrupt}" if self._corrupt > 1 else ""
            self._say("corrupt", f"Corrupt frame: {self._corrupt_reason}{others}.")
            self._corrupt, self._corrupt_told = 0, time.monotonic()

    def _hand_over(self, shot: Shot, image: Image, start: int) -> None:
        turned = self._turn(image)
        decode_ns = shot.decoded_ns + time.perf_counter_ns() - start
        self._writer.write(turned, shot.captured_at, shot.born_ns, decode_ns)
        self._tell(None)
        if not self._frames:
            self._first = time.monotonic()
            self._compare_size(image)
        self._frames += 1
        self._compare_rate()

    def _compare_size(self, image: Image) -> None:
        asked, given = self._request.size, (image.shape[1], image.shape[0])
        if asked and asked != given:
            self._say("differs", f"Asked for {asked[0]}x{asked[1]}; the camera gives {given[0]}x{given[1]}.")

    def _compare_rate(self) -> None:
        asked, seconds = self._request.fps, time.monotonic() - self._first
        if not asked or not self._first or seconds < RATE_WINDOW:
            return
        rate = (self._frames - 1) / seconds
        if abs(rate / asked - 1) > RATE_TOLERANCE:
            self._say("differs", f"Asked for {asked:g} frames a second; the camera gives {rate:.1f}.")
        self._first = 0.0  # told once

    def _say(self, kind: str, reason: str) -> None:
        text = printable(self._scrub(reason))
        seen = "".join(letter if letter.isprintable() else " " for letter in text)
        self._tell(Said(kind=kind, at=time.time(), reason=seen[:LONGEST_REASON]))


def main() -> None:
    """Arguments: the descriptor for messages, and those of the shared memories."""
    die_with_parent()
    messages, *memories = map(int, sys.argv[1:])
    for descriptor in (messages, *memories):
        os.set_inheritable(descriptor, False)
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=Request)
    threading.Thread(target=_end_with_stdin, daemon=True).start()

    def tell(said: Said | None) -> None:
        line = b"" if said is None else msgspec.json.encode(said)
        with suppress(BlockingIOError):  # nobody has listened for half an hour: the slot holds what counts
            os.write(messages, line + b"\n")

    Capture(request, Writer(memories), tell).run()
    os._exit(0)  # not through the destructors of a driver that may hang


def _end_with_stdin() -> None:
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    main()
