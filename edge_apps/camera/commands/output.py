"""What a run tells, to people (labels, a live line, a table at the end) and to programs (JSON lines)."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from edge_apps.camera.inference.loop import Outcome, Result, Top
from edge_apps.camera.inference.session import Session
from edge_apps.camera.inference.show import stage_parts
from edge_apps.camera.inference.stage_names import stages_as_json
from edge_apps.camera.run import Tally
from edge_apps.camera.sources.parse import Event, Skipped
from edge_apps.console import Lines, print_parts, progress, results
from edge_apps.settings import as_options

LIVE_EVERY = 0.25
"""Seconds between two states of the live line in a terminal."""

NOTE_EVERY = 10.0
"""Seconds between two such lines where there is no terminal."""


class ForPeople:
    """Labels line by line (``lines``), or one live line; a table at the end."""

    def __init__(self, *, lines: bool, quiet: bool, expected: int | None) -> None:
        self._quiet, self._lines = quiet, lines and not quiet
        self._out = Lines()
        self._notes = progress()
        self._expected = expected
        # Lines that go to the terminal say enough; a live line between them would tear them apart.
        self._is_live = not quiet and not (self._lines and sys.stdout.isatty())
        self._live: Live | None = None

    def started(self, session: Session, passed_over: tuple[str, ...]) -> None:
        tell_start(self._notes, session, passed_over)
        if self._is_live and not self._live:
            self._live = Live(self._notes, self._expected)

    def serving(self, url: str) -> None:
        self._notes.print(Text(f"Live page: {url}"), soft_wrap=True)

    def item(self, item: Outcome, tally: Tally) -> None:
        with suppress(OSError):  # nobody reads the notes, or their disk is full: that ends no camera
            if isinstance(item, Event):
                self._notes.print(Text(as_options(item.reason)), soft_wrap=True)
            elif isinstance(item, Skipped) and not self._quiet:
                self._notes.print(Text(f"Skipped: {as_options(item.reason)}"), soft_wrap=True)
        if isinstance(item, Result) and self._lines:
            self._out.print(f"{item.name:<32}  {_answer(item, *item.shown[1:])}")
        if self._live:
            with suppress(OSError):
                self._live.show(item, tally)

    def finished(self, tally: Tally) -> None:
        self.close()
        self._out.tell_lost()
        if not tally.frames:
            self._notes.print(f"Stopped by {tally.ended_by} before the first frame was classified.")
            return
        stopped = f", stopped by {tally.ended_by}" if tally.ended_by.startswith("SIG") else ""
        skipped = f", {tally.skipped} skipped" if tally.skipped else ""
        out = results()
        rate = "" if tally.fps is None else f", {tally.fps:.1f} fps"
        frames = f"{tally.frames:,} frame{'' if tally.frames == 1 else 's'}"
        out.print(f"{frames} in {tally.seconds:.2f} s{rate}{skipped}{stopped}")
        if tally.labels:
            most = ", ".join(f"{label} {n:,}" for label, n in tally.labels.most_common(5))
            out.print(Text(f"Most frequent: {most}"))
        if unsure := tally.frames - tally.labels.total():
            out.print(f"Unsure of {unsure:,} frames: no label reached the threshold.")
        kept = len(tally.times)
        title = "Latency" if kept == tally.frames else f"Latency of the last {kept:,} frames"
        print_parts(stage_parts(title, tally.times.summaries()))

    def close(self) -> None:
        if self._live:
            self._live.close()
            self._live = None


class ForPrograms:
    """One JSON object per line on stdout, its ``type`` first: session, frame, skipped, event, summary."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._out = Lines()

    def started(self, session: Session, passed_over: tuple[str, ...]) -> None:
        tell_start(progress(), session, passed_over)
        self._print({"type": "session", "fingerprint": session.device.fingerprint, **msgspec.to_builtins(session)})

    def serving(self, url: str) -> None:
        progress().print(Text(f"Live page: {url}"), soft_wrap=True)

    def item(self, item: Outcome, tally: Tally) -> None:  # noqa: ARG002 - the protocol's signature
        if isinstance(item, Event):
            self._print({"type": "event", **asdict(item)})
            return
        if self._quiet:
            return
        if isinstance(item, Skipped):
            self._print({"type": "skipped", **asdict(item)})
            return
        self._print(
            {
                "type": "frame",
                "sequence": item.sequence,
                "name": item.name,
                "captured_at": item.captured_at,
                "top": _as_json(item.top),
                "smoothed": _as_json(item.smoothed),
                "decision": item.decision,
                "ms": {stage: nanoseconds / 1e6 for stage, nanoseconds in item.times.items()},
            }
        )

    def finished(self, tally: Tally) -> None:
        self._out.tell_lost()
        self._print(
            {
                "type": "summary",
                "frames": tally.frames,
                "skipped": tally.skipped,
                "seconds": tally.seconds,
                "fps": tally.fps,
                "ended_by": tally.ended_by,
                "labels": dict(tally.labels.most_common()),
                "unsure": tally.frames - tally.labels.total(),
                "ms": stages_as_json(tally.times.summaries()),
            }
        )

    def close(self) -> None:
        """Every line is out already."""

    def _print(self, line: dict[str, Any]) -> None:
        self._out.print_json(msgspec.json.encode(line).decode())


class Live:
    """How it goes: one line that changes in a terminal, a line every ten seconds elsewhere."""

    def __init__(self, console: Console, expected: int | None) -> None:
        self._console = console
        self._shown = time.perf_counter()
        self._frames = 0
        if not self._console.is_terminal:
            self._bar: Progress | None = None
            return
        length = (BarColumn(), TimeRemainingColumn()) if expected else (SpinnerColumn(), TimeElapsedColumn())
        # Refreshed by the loop itself: a thread of its own would disturb what is measured.
        line = TextColumn("{task.description}", markup=False)
        self._bar = Progress(*length, line, console=self._console, transient=True, auto_refresh=False)
        self._task = self._bar.add_task("", total=expected)
        self._bar.start()

    def show(self, item: Outcome, tally: Tally) -> None:
        """Say it, if the last time is long enough ago."""
        now = time.perf_counter()
        if now - self._shown < (LIVE_EVERY if self._bar else NOTE_EVERY):
            return
        fps = (tally.frames - self._frames) / (now - self._shown)
        self._shown, self._frames = now, tally.frames
        best = _answer(item) if isinstance(item, Result) else ""
        line = f"{tally.frames:,} frames  {fps:.1f} fps  {best}"
        if self._bar:
            self._bar.update(self._task, completed=tally.frames + tally.skipped, description=line, refresh=True)
        else:
            self._console.print(Text(line))

    def close(self) -> None:
        """Take the changing line away."""
        if self._bar:
            self._bar.stop()


def tell_start(out: Console, session: Session, passed_over: tuple[str, ...]) -> None:
    """Which file runs, on what, and why not a better one."""
    for reason in passed_over:
        out.print(Text(f"Passed over {as_options(reason)}"), soft_wrap=True)
    threads = f"{session.threads} thread{'s' if session.threads != 1 else ''}"
    out.print(
        Text(
            f"{session.file}: {session.model} {session.precision} for {session.target}, by {session.runtime} "
            f"on {threads}. Loaded in {session.load_ms:.1f} ms, first inference {session.first_ms:.1f} ms."
        ),
        soft_wrap=True,
    )


def _answer(item: Result, *others: tuple[str, float]) -> str:
    """The best label, which is no answer below the threshold, and others."""
    unsure = "" if item.decision is not None else "unsure: "
    return unsure + "  ".join(_label(label, probability) for label, probability in (item.shown[0], *others))


def _as_json(top: Top) -> list[dict[str, Any]]:
    return [{"label": label, "probability": probability} for label, probability in top]


def _label(label: str, probability: float) -> str:
    return f"{label} {probability * 100:.1f} %"
