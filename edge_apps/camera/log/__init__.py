"""The latency log: one SQLite file with a row per frame, written by a thread of its own.

::

    session   one run: device (id, name, hardware), runtime, model file and its hash, source, load time, how it ended
    frame     one classified frame: nanoseconds per stage, best label
    window    ten seconds of a session: percentiles of each stage, and a histogram that can be merged
    sample    the device, once a second: temperature, clock, throttling, memory, power mode
    event     one frame that was skipped, or what happened to the source, the clock or the log, and why

A device is told from others by its id (``edge_apps.runtime.identity``); its name is for people and may change.
Runs add their sessions to one file. Rows are committed every half second with ``synchronous=FULL``, so that a power
cut or ``kill -9`` costs half a second of rows and what the disk takes for its commits; and because a thread does it, a
slow SD card stops no frame. Only while a large file is read through at start do rows wait in memory for longer. Order
and windows follow the monotonic clock; the wall clock, which may be set at any time, is written down beside it.
"""

from edge_apps.camera.log.database import check_is_log, read_log
from edge_apps.camera.log.writer import Log, LogState, open_log

__all__ = ["Log", "LogState", "check_is_log", "open_log", "read_log"]
