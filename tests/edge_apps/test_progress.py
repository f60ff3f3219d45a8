"""What work reports reaches whoever shows it; on a terminal as bars, elsewhere as lines, and by default nowhere."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable

import pytest

from edge_apps import console, progress
from edge_apps.console import SafeConsole
from edge_apps.progress import shown_by
from edge_apps.progress_bars import ProgressBars


def work(drawn: Callable[[], bool] = lambda: True) -> None:
    """A job of two steps, the second of which tracks items and bytes until they were drawn."""
    with progress.steps(2):
        progress.step("First")
        assert list(progress.each("abc", "Letters")) == ["a", "b", "c"]
        progress.step("Second")
        with progress.track("Items", 10) as outer, progress.track("Bytes", unit="bytes") as inner:
            outer.advance(4)
            inner.at(1_500_000, 3_000_000, "Bytes of [bold]a.pth")
            deadline = time.monotonic() + 10
            while not drawn() and time.monotonic() < deadline:
                time.sleep(0.01)
    progress.note("Done: choose another `out`.")


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> str:
    stream = io.StringIO()
    made = SafeConsole(file=stream, width=100, force_terminal=terminal, highlight=False)
    monkeypatch.setattr("edge_apps.progress_bars.progress", lambda: made)
    with shown_by(ProgressBars()):
        work(lambda: not terminal or "a.pth" in stream.getvalue())
    return stream.getvalue()


def test_nothing_is_shown_unless_somebody_asks(capfd: pytest.CaptureFixture[str]) -> None:
    work()
    assert capfd.readouterr() == ("", "")


def test_without_a_terminal_steps_and_notes_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, terminal=False).splitlines() == [
        "[1/2] First",
        "[2/2] Second",
        "Done: choose another --out.",
    ]


def test_on_a_terminal_there_are_bars_that_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True)
    assert "[1/2]" not in text
    assert "Second" in text
    assert "Bytes of [bold]a.pth" in text
    assert "1.5/3.0 MB" in text
    assert "\x1b[2K" in text  # the last bar is wiped
    assert text.rstrip().endswith("Done: choose another --out.")


def test_a_step_outside_a_job_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("edge_apps.progress_bars.progress", lambda: SafeConsole(file=stream, width=80))
    with shown_by(ProgressBars()):
        progress.step("Capturing the network")
    assert stream.getvalue() == "Capturing the network\n"


def test_another_thread_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that a library starts has no terminal to write to."""
    stream = io.StringIO()
    monkeypatch.setattr("edge_apps.progress_bars.progress", lambda: SafeConsole(file=stream, width=80))
    with shown_by(ProgressBars()):
        thread = threading.Thread(target=progress.note, args=("from a thread",))
        thread.start()
        thread.join()
    assert stream.getvalue() == ""
    assert console.progress().file is not stream
