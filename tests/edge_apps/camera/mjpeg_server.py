"""A network camera for tests: a real HTTP server that sends MJPEG, and whatever else it is told to.

Each connection gets the next of ``behaviours`` (the last one again and again): a function of the open connection.
"""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=edge\r\n\r\n"


def picture(grey: int, width: int = 64, height: int = 48) -> bytes:
    """A JPEG picture of one grey, which survives compression to within 2."""
    return bytes(cv2.imencode(".jpg", np.full((height, width, 3), grey, np.uint8))[1])


def part(data: bytes) -> bytes:
    """One part of the stream."""
    return b"--edge\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data) + data + b"\r\n"


Behaviour = Callable[["Connection"], None]


class Connection:
    """What a behaviour does with a client."""

    def __init__(self, server: Server, client: socket.socket, request: bytes) -> None:
        self.client, self.request, self._server = client, request, server

    def send(self, data: bytes) -> None:
        self.client.sendall(data)

    def frames(self, *greys: int, every: float = 0.02, **size: int) -> None:
        for grey in greys:
            self.send(part(picture(grey, **size)))
            time.sleep(every)

    def forever(self, first: int = 0, every: float = 0.02, **size: int) -> None:
        number = first
        while not self._server.closed.wait(every):
            self.send(part(picture(number % 250, **size)))
            number += 1

    def hang(self) -> None:
        """Say nothing; the connection stays open."""
        self._server.closed.wait()


class Server:
    """Listens from the start, or from ``listen`` on."""

    def __init__(self, *behaviours: Behaviour, listen: bool = True) -> None:
        self.behaviours = behaviours
        self.connections = 0
        self.requests: list[bytes] = []
        self.closed = threading.Event()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.source = f"http://127.0.0.1:{self.port}/video"
        if listen:
            self.listen()

    def listen(self) -> None:
        self._socket.listen()
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
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            try:
                request = b""
                while b"\r\n\r\n" not in request:
                    data = client.recv(4096)
                    if not data:
                        return
                    request += data
                behaviour = self.behaviours[min(self.connections, len(self.behaviours) - 1)]
                self.connections += 1
                self.requests.append(request)
                behaviour(Connection(self, client, request))
            except OSError:
                return  # the client went away


def streams(*greys: int, then: Callable[[Connection], None] = lambda _: None, **options: float) -> Behaviour:
    """The head, these frames, and then something else; by default the end."""

    def behave(connection: Connection) -> None:
        connection.send(HEAD)
        connection.frames(*greys, **options)  # type: ignore[arg-type]
        then(connection)

    return behave


def protected(user: str, password: str, *, behaviour: Behaviour) -> Behaviour:
    """Basic login first."""
    expected = b"Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode())

    def behave(connection: Connection) -> None:
        if expected in connection.request:
            behaviour(connection)
        else:
            ask = b'WWW-Authenticate: Basic realm="camera"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
            connection.send(b"HTTP/1.1 401 Unauthorized\r\n" + ask)

    return behave
