"""The other end of ``worker.py``: starts it, listens to it, kills it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

import msgspec

from edge_apps.camera.capture.frame_slot import Reader, Shared
from edge_apps.camera.capture.messages import Request, Said
from edge_apps.children import same_installation

PATIENCE = 1.0
"""Seconds for a killed process to go; one that hangs in a driver goes later, by itself."""

LARGEST = str(2**26)
"""Pixels that OpenCV decodes: the damaged head of a picture may claim 65,535 × 65,535."""


class CaptureProcess:
    """One process that captures, and the slot that it fills. Close it."""

    def __init__(self, request: Request) -> None:
        self._slot = Reader()
        self._messages, theirs = os.pipe()
        for end in (self._messages, theirs):
            os.set_blocking(end, False)
        inherited = (theirs, *self._slot.descriptors)
        self._unread = b""
        self.is_alive, self._killed = True, False
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge_apps.camera.capture.worker", *map(str, inherited)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=inherited,
                env={**same_installation(), "OPENCV_IO_MAX_IMAGE_PIXELS": LARGEST},
                cwd="/",  # Python looks for modules in the current folder first
                start_new_session=True,  # Ctrl-C is for us; and all that it starts can be killed together
            )
        except BaseException:
            os.close(self._messages)
            self._slot.close()
            raise
        finally:
            os.close(theirs)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died already: is_alive will say so
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def listen(self, seconds: float) -> list[Said]:
        """What it says, waiting so long for a word or a frame; ``is_alive`` is False afterwards if it is gone."""
        waiting = select.poll()
        waiting.register(self._messages, select.POLLIN)
        if not waiting.poll(seconds * 1000):
            return []
        with suppress(BlockingIOError):
            while data := os.read(self._messages, 65536):
                self._unread += data
            self.is_alive = False
        *lines, self._unread = self._unread.split(b"\n")
        return [msgspec.json.decode(line, type=Said) for line in lines if line]

    def newest(self, after: int) -> Shared | None:
        """The latest frame, if it is newer than number ``after`` of this process."""
        return self._slot.newest(after)

    def how_it_ended(self) -> str:
        """For people, of one that is not alive."""
        self._kill()  # what it started; its own status stands already
        with suppress(subprocess.TimeoutExpired):
            status = self._process.wait(PATIENCE)
            if status < 0:
                return f"the process that captures was ended by {signal.Signals(-status).name}"
            return f"the process that captures ended with status {status}"
        return "the process that captures closed its line"

    def close(self) -> None:
        """Kill it and what it started, and give the memory back. Does not wait for a hung driver."""
        self._kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        os.close(self._messages)
        self._slot.close()

    def _kill(self) -> None:
        """The whole group, once and before its leader is waited for: later its number may be somebody else's."""
        if not self._killed:
            self._killed = True
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
