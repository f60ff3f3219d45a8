"""Libraries are silenced at the descriptors, and the program is not."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_apps import chatter
from edge_apps.chatter import SHOW, hushed


@pytest.fixture(autouse=True)
def descriptors(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No descriptor is lost. (That 1 and 2 are put back is seen by what is written afterwards.)"""
    monkeypatch.delenv(SHOW, raising=False)
    capfd.readouterr()
    before = opened()
    yield
    assert opened() == before


def opened() -> int:
    """Descriptors of this process."""
    return len(list(Path("/dev/fd").iterdir()))


def say(text: str) -> None:
    """As a C++ library does."""
    os.write(1, f"{text} on stdout\n".encode())
    os.write(2, f"{text} on stderr\n".encode())


def both(*texts: str) -> tuple[str, str]:
    return "".join(f"{t} on stdout\n" for t in texts), "".join(f"{t} on stderr\n" for t in texts)


def test_what_is_written_to_the_descriptors_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    say("before")
    with hushed():
        say("inside")
    say("after")
    assert tuple(capfd.readouterr()) == both("before", "after")


def test_child_processes_are_hushed_too(capfd: pytest.CaptureFixture[str]) -> None:
    with hushed():
        subprocess.run(["sh", "-c", "echo chatter; echo chatter >&2"], check=True)
    assert tuple(capfd.readouterr()) == ("", "")


def test_it_ends_with_an_error_too(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(error: type[BaseException]) -> None:
        with hushed():
            say("inside")
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(error)
    say("after")
    assert tuple(capfd.readouterr()) == both("after")


def test_blocks_within_blocks(capfd: pytest.CaptureFixture[str]) -> None:
    with hushed():
        with hushed():
            say("inside")
        say("still inside")
    say("after")
    assert tuple(capfd.readouterr()) == both("after")


def test_overlapping_threads_restore_what_was(capfd: pytest.CaptureFixture[str]) -> None:
    """The first to come in leaves first: the second is still hushed, and the last out restores."""
    inside, may_leave, left = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with hushed():
            inside.set()
            assert may_leave.wait(10)
        left.set()

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)
    with hushed():
        may_leave.set()
        assert left.wait(10)
        say("inside")
    thread.join()
    say("after")
    assert tuple(capfd.readouterr()) == both("after")


def test_many_threads_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        for _ in range(50):
            with hushed():
                say("inside")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert chatter._inside == 0
    say("after")
    assert tuple(capfd.readouterr()) == both("after")


@pytest.mark.parametrize(("value", "lets_talk"), [("1", True), ("0", False), ("", False)])
def test_the_environment_lets_them_talk(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str, lets_talk: bool
) -> None:
    monkeypatch.setenv(SHOW, value)
    with hushed():
        say("inside")
    assert tuple(capfd.readouterr()) == (both("inside") if lets_talk else ("", ""))


def test_what_python_wrote_before_is_seen_and_in_order() -> None:
    """Buffered text is flushed before descriptors change hands, and hushed text does not come out at the end."""
    code = (
        "import os\n"
        "from edge_apps.chatter import hushed\n"
        "print('before')\n"
        "with hushed():\n"
        "    print('inside')\n"
        "    os.write(1, b'inside')\n"
        "print('after')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "before\nafter\n", "")


def test_a_full_disk_stops_nothing(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with hushed():
        os.write(1, b"chatter")
    os.write(1, b"ours")
    assert capfd.readouterr().out == "ours"
