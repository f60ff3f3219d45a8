"""A small RTSP camera for tests: one stream of JPEG over RTP, inside the TCP connection (RFC 2326, RFC 2435)."""

from __future__ import annotations

import base64
import re
import socket
import struct
import threading
import time

import cv2
import numpy as np

SDP = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track\r\n"
LARGEST_PACKET = 1400


def rtp_packets(grey: int, width: int, height: int, sequence: int, when: int) -> list[bytes]:
    """One frame: the scan of a baseline 4:2:0 JPEG, its quantization tables in the first packet (RFC 2435, 3.1)."""
    data = bytes(cv2.imencode(".jpg", np.full((height, width, 3), grey, np.uint8))[1])
    tables, at = b"", 2
    while data[at + 1] != 0xDA:
        length = struct.unpack(">H", data[at + 2 : at + 4])[0]
        if data[at + 1] == 0xDB:
            body = data[at + 4 : at + 2 + length]
            tables += b"".join(body[n + 1 : n + 65] for n in range(0, len(body), 65))
        at += 2 + length
    scan = data[at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0] : -2]
    packets = []
    for offset in range(0, len(scan), LARGEST_PACKET):
        piece = scan[offset : offset + LARGEST_PACKET]
        last = offset + len(piece) == len(scan)
        head = struct.pack(">BBHII", 0x80, 26 | last << 7, (sequence + len(packets)) & 0xFFFF, when, 1)
        jpeg = struct.pack(">II", offset, 1 << 24 | 255 << 16 | width // 8 << 8 | height // 8)
        quantization = struct.pack(">BBH", 0, 0, len(tables)) + tables if offset == 0 else b""
        packets.append(head + jpeg + quantization + piece)
    return packets


class RtspServer:
    """Streams ``frames`` frames per connection (None: without end) to who knows user and password."""

    def __init__(self, login: str | None = None, frames: int | None = None) -> None:
        self._login, self._frames = login, frames
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.closed = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.closed.set()
        self._socket.close()

    def _serve(self) -> None:
        while not self.closed.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with client:
            try:
                while not self.closed.is_set():
                    request = b""
                    while b"\r\n\r\n" not in request:
                        data = client.recv(4096)
                        if not data:
                            return
                        request += data
                    if self._answer(client, request):
                        self._stream(client)
                        return
            except OSError:
                return

    def _answer(self, client: socket.socket, request: bytes) -> bool:
        """Whether the stream starts now."""
        method = request.split(b" ", 1)[0]
        number = re.search(rb"(?i)cseq: *(\d+)", request)
        assert number is not None
        wanted = b"Basic " + base64.b64encode((self._login or "").encode())
        extra, body, status = b"", b"", b"200 OK"
        if self._login and method != b"OPTIONS" and wanted not in request:
            status, extra = b"401 Unauthorized", b'WWW-Authenticate: Basic realm="camera"\r\n'
        elif method == b"DESCRIBE":
            extra, body = b"Content-Type: application/sdp\r\n", SDP
        elif method == b"SETUP":
            extra = b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        elif method == b"OPTIONS":
            extra = b"Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n"
        head = b"RTSP/1.0 %s\r\nCSeq: %s\r\nSession: 1\r\n%sContent-Length: %d\r\n\r\n"
        client.sendall(head % (status, number[1], extra, len(body)) + body)
        return method == b"PLAY" and status == b"200 OK"

    def _stream(self, client: socket.socket) -> None:
        sequence = number = 0
        while self._frames is None or number < self._frames:
            packets = rtp_packets(20 + number * 3 % 230, 64, 48, sequence, number * 3000)
            for packet in packets:
                client.sendall(struct.pack(">BBH", ord("$"), 0, len(packet)) + packet)
            sequence, number = sequence + len(packets), number + 1
            if self.closed.wait(0.03):
                return
        time.sleep(0.1)
