"""The live page: what the camera sees and how fast, for browsers, programs and Prometheus.

=================  ====================================================================================
``/``              the page
``/stream``        the video with its overlay, as MJPEG (``multipart/x-mixed-replace``)
``/frames``        the same frames for programs and the page: of each its labels as JSON, then its JPEG (``multipart``)
``/snapshot.jpg``  the latest frame with its overlay; the header ``X-Frame-Sequence`` has its number
``/events``        server-sent events: ``labels`` up to five times a second, ``state`` once a second
``/api/state``     everything as JSON: ``edge_apps.camera.live.schema.State``
``/metrics``       for Prometheus
``/healthz``       200 while frames flow; 503 and the reason when they do not
=================  ====================================================================================

On a loopback address everybody on the machine may look. On any other address, and wherever a token was given, every
request needs the token: once as ``?token=…``, which a browser keeps as a cookie from then on, or as
``Authorization: Bearer …`` (in Prometheus: ``authorization: {credentials: …}``). That goes for ``/healthz`` and
``/metrics`` too. There is no TLS here: in a network that others listen to, put a proxy before it or use a tunnel
(``ssh -L 8080:localhost:8080 board``), for which the loopback address is enough.
"""

from __future__ import annotations

import importlib

from edge_apps.errors import MissingExtra, install


def check_installed() -> None:
    """Refuse ``--web`` before anything starts where its libraries are missing; raises ``MissingExtra``."""
    try:
        importlib.import_module("edge_apps.camera.web.server")
    except ImportError as error:
        raise MissingExtra(f"`web` needs '{error.name}', which is not installed: {install('web')}.") from error
