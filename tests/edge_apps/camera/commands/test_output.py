"""What people are told: the live line, odd labels, and the table."""

import io
import re
import sys

import pytest

from edge_apps.camera.commands import output as output_module
from edge_apps.camera.commands.output import ForPeople
from edge_apps.camera.inference.loop import Result
from edge_apps.camera.inference.session import Session
from edge_apps.camera.inference.show import stage_parts
from edge_apps.camera.run import Tally
from edge_apps.console import print_parts
from edge_apps.runtime.device import this_device
from edge_apps.runtime.latency import summarize

SESSION = Session(
    device=this_device(), runtime="fake 1.0", threads=1, model="colours", file="c.fake", sha256="ab", target="tflite",
    precision="int8", input="8×10", source="folder:x", load_ms=1.0, first_ms=2.0, warmup=5,
)  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """From now on stderr is a terminal, 100 columns wide. (A fixture's is replaced before the test begins.)"""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    for name, value in (("TERM", "xterm"), ("COLUMNS", "100"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(output_module, "LIVE_EVERY", 0.0)
    return screen


def tell(output: ForPeople, label: str, frames: int = 3) -> None:
    tally = Tally()
    output.started(SESSION, ())
    for sequence in range(frames):
        times = {"capture": 1, "decode": 5, "preprocess": 2, "infer": 3, "postprocess": 4, "total": 15, "age": 16}
        top = ((label, 0.5),)
        item = Result(sequence, f"[red]{sequence}.png", 0.0, top, times, top, label)
        tally.seconds = 0.25 * sequence
        tally.add(item)
        output.item(item, tally)
    tally.ended_by = "frames"
    output.finished(tally)
    output.close()


def test_names_and_labels_are_printed_as_they_are(capsys) -> None:
    tell(ForPeople(lines=True, quiet=False, expected=3), "[bold]:cat:")
    out = capsys.readouterr().out
    assert "[red]0.png" in out
    assert out.count("[bold]:cat: 50.0 %") == 3
    assert "Most frequent: [bold]:cat: 3" in out
    assert "3 frames in 0.50 s, 4.0 fps" in out  # two intervals, as the log counts


def test_a_single_frame_has_no_throughput(capsys) -> None:
    tell(ForPeople(lines=True, quiet=False, expected=1), "cat", frames=1)
    out = capsys.readouterr().out
    assert "1 frame in 0.00 s\n" in out
    assert "fps" not in out
    assert Tally().fps is None


def test_a_stream_in_a_terminal_has_one_line_that_changes(monkeypatch, capsys) -> None:
    screen = terminal(monkeypatch)
    tell(ForPeople(lines=False, quiet=False, expected=None), "[bold]:cat:")
    said = screen.getvalue()
    assert re.search(r"3 frames  [\d.]+ fps  \[bold\]:cat: 50\.0 %", said)
    assert "\x1b[2K" in said, "it is wiped"
    assert capsys.readouterr().out.startswith("3 frames in 0.50 s")


def test_quiet_has_no_live_line(monkeypatch) -> None:
    screen = terminal(monkeypatch)
    tell(ForPeople(lines=False, quiet=True, expected=None), "cat")
    assert len(screen.getvalue().splitlines()) == 1


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch, capsys) -> None:
    monkeypatch.setattr(output_module, "NOTE_EVERY", 0.0)
    tell(ForPeople(lines=False, quiet=False, expected=None), "cat")
    notes = capsys.readouterr().err.splitlines()[1:]
    assert len(notes) == 3
    assert notes[2].startswith("3 frames  ")


def test_lines_on_a_terminal_are_not_torn_by_a_live_line(monkeypatch) -> None:
    screen = terminal(monkeypatch)
    monkeypatch.setattr(sys, "stdout", screen)
    tell(ForPeople(lines=True, quiet=False, expected=3), "cat")
    assert "\x1b[2K" not in screen.getvalue()
    assert screen.getvalue().count("cat 50.0 %") == 3


def test_a_p99_of_enough_frames_has_no_star(capsys) -> None:
    print_parts(stage_parts("t", {"infer": summarize(range(10_000)), "age": summarize(range(9_999))}))
    latency, infer = (line for line in capsys.readouterr().out.splitlines() if re.search("infer|end-to-end", line))
    assert "*" not in infer
    assert "*" in latency
