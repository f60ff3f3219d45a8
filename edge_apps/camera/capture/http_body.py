"""The bytes of an HTTP answer, whatever its headers say of them."""

from __future__ import annotations

import http.client
import re
import zlib
from collections.abc import Callable

GZIP = b"\x1f\x8b"
"""The first two bytes of gzip data (RFC 1952, 2.3.1)."""

CHUNK = re.compile(rb"[0-9A-Fa-f]{1,8}[ \t]*(;[^\r\n]*)?\r\n")
"""The line in front of a chunk (RFC 9112, 7.1): how many bytes it has, in hexadecimal digits."""

READ_AT_ONCE = 65536


class Body:
    """Read an answer to its real end, as chunks where there are chunks, and unpack what begins as gzip does.

    Some cameras state a length for a stream that does not end: behind it is read on, unless ``is_complete`` says that
    nothing is missing.
    """

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.is_complete: Callable[[], bool] = lambda: False
        self._response = response
        self._look_for_chunks()
        self._left, response.length = response.length, None  # else its read1 ends there
        self._unpack: Callable[[int], bytes] | None = None

    def read(self, count: int) -> bytes:
        """Return one to ``count`` bytes as soon as there are any; none at the end.

        Raises:
            OSError, http.client.HTTPException: the connection failed.
            zlib.error: the packed data are damaged.
        """
        if self._unpack is not None:
            return self._unpack(count)
        data = self._sent(count)
        if len(data) == 1:
            data += self._sent(max(1, count - 1))
        if data.startswith(GZIP):
            self._unpack = Gunzip(self._sent, data)
            return self._unpack(count)
        self._unpack = self._sent
        return data

    def _look_for_chunks(self) -> None:
        """Let http.client take chunks for what they are, and nothing else for chunks; waits for the first bytes."""
        response = self._response
        first = response.fp.peek(64) if response.fp else b""
        if response.chunked and first and not re.match(rb"[0-9A-Fa-f]", first):
            response.chunked = False
        elif not response.chunked and CHUNK.match(first):
            response.chunked, response.chunk_left = True, None

    def _sent(self, count: int) -> bytes:
        if self._left is not None and self._left <= 0 and self.is_complete():
            return b""
        data = self._response.read1(count)
        if self._left is not None:
            self._left -= len(data)
        return data


class Gunzip:
    """Unpack gzip data as it arrives, never more at once than is asked for."""

    def __init__(self, read: Callable[[int], bytes], held: bytes) -> None:
        self._read, self._held = read, held
        self._start()

    def __call__(self, count: int) -> bytes:
        """Return one to ``count`` bytes; none at the end."""
        while True:
            data = self._member.decompress(self._held, count)
            self._held = self._member.unconsumed_tail
            if self._member.eof:  # another member may follow, as where each part is packed by itself
                self._held = self._member.unused_data
                self._start()
            if data:
                return data
            if not self._held:
                self._held = self._read(READ_AT_ONCE)
                if not self._held:
                    return b""

    def _start(self) -> None:
        self._member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
