"""The slot between two real processes: the latest frame, whole, once, whoever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_apps.camera.capture.frame_slot import Reader, Shared

WRITER = """
import sys, time
import numpy as np
from edge_apps.camera.capture.frame_slot import Writer
writer = Writer([int(word) for word in sys.argv[2:]])
for line in sys.stdin if sys.argv[1] == "asked" else iter(int, 1):
    if line == 0:  # as fast as possible: every byte of frame n is n modulo 251, and the size changes too
        n = writer._sequence + 1
        size = 40 + n % 7 * 30, 300 - n % 5 * 40
        writer.write(np.full((*size, 3), n % 251, np.uint8), float(n), n, 2 * n)
        continue
    height, width, value = map(int, line.split())
    writer.write(np.full((height, width, 3), value, np.uint8), 1.5, 77, 88)
    print("written", flush=True)
"""


class Program:
    """A writer in a process of its own."""

    def __init__(self, reader: Reader, mode: str) -> None:
        command = [sys.executable, "-c", WRITER, mode, *map(str, reader.descriptors)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, pass_fds=reader.descriptors, text=True, **pipes)

    def write(self, height: int, width: int, value: int) -> None:
        self.process.stdin.write(f"{height} {width} {value}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "written\n"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


@pytest.fixture
def writer(reader: Reader) -> Iterator[Program]:
    program = Program(reader, "asked")
    yield program
    program.close()


def test_the_latest_frame_comes_once(reader: Reader, writer: Program) -> None:
    assert reader.newest(0) is None
    for value in (10, 20, 30):
        writer.write(4, 6, value)
    found = reader.newest(0)
    assert found is not None
    assert (found.sequence, found.captured_at, found.born_ns, found.decode_ns) == (3, 1.5, 77, 88)
    assert found.image.shape == (4, 6, 3)
    assert (found.image == 30).all()
    assert reader.newest(3) is None
    writer.write(4, 6, 40)
    again = reader.newest(3)
    assert again is not None
    assert (again.sequence, int(again.image[0, 0, 0])) == (4, 40)
    assert (found.image == 30).all(), "a frame that was handed over does not change any more"


def test_frames_grow_and_shrink(reader: Reader, writer: Program) -> None:
    for number, size in enumerate([(4, 6), (480, 640), (1080, 1920), (48, 64), (2, 2000)], start=1):
        writer.write(*size, number)
        found = reader.newest(number - 1)
        assert found is not None
        assert found.image.shape == (*size, 3)
        assert (found.image == number).all()


def test_a_writer_never_waits_for_a_reader(reader: Reader, writer: Program) -> None:
    """With one memory held, frames go on through the other two, and none of them is lost to the reader."""
    writer.write(4, 6, 1)
    memory = reader._memories[0]
    with memory.locked() as mine:
        assert mine
        for value in range(2, 30):
            writer.write(4, 6, value)
    found = reader.newest(0)
    assert found is not None
    assert (found.sequence, int(found.image[0, 0, 0])) == (29, 29)


def check(found: Shared) -> None:
    n = found.sequence
    assert (found.captured_at, found.born_ns, found.decode_ns) == (float(n), n, 2 * n)
    assert found.image.shape == (40 + n % 7 * 30, 300 - n % 5 * 40, 3)
    assert (found.image == n % 251).all(), "torn"


@pytest.mark.parametrize("frames", [300, pytest.param(20_000, marks=pytest.mark.long)])
def test_no_frame_is_torn_or_old_while_the_writer_writes_as_fast_as_it_can(reader: Reader, frames: int) -> None:
    program = Program(reader, "all")
    try:
        last = read = 0
        while read < frames:
            found = reader.newest(last)
            if found is not None:
                check(found)
                assert found.sequence > last
                last, read = found.sequence, read + 1
        assert last >= frames
    finally:
        program.close()


def test_a_writer_that_is_killed_in_the_middle_leaves_a_whole_frame_or_none(reader: Reader) -> None:
    for attempt in range(5):
        program = Program(reader, "all")
        while reader.newest(0) is None:
            time.sleep(0.001)
        time.sleep(0.003 * attempt)
        os.kill(program.process.pid, signal.SIGKILL)
        program.close()
        found = reader.newest(0)
        if found is not None:
            check(found)
        for memory in reader._memories:
            with memory.locked() as mine:
                assert mine, "the kernel gives the locks of the dead back"


def test_nothing_of_it_has_a_name(reader: Reader, writer: Program) -> None:
    writer.write(480, 640, 1)
    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc on this system")
    for descriptor in reader.descriptors:
        assert str(Path(f"/proc/self/fd/{descriptor}").readlink()).endswith("(deleted)")


def test_a_header_that_promises_too_much_is_no_frame(reader: Reader, writer: Program) -> None:
    writer.write(4, 6, 1)
    from edge_apps.camera.capture.frame_slot import HEADER

    for memory in reader._memories:
        HEADER.pack_into(memory.mapped, 0, 9, 1.0, 1, 1, 50_000, 50_000)
    assert reader.newest(0) is None


def test_a_frame_that_the_machine_has_no_memory_for_is_an_error_not_a_crash(tmp_path: Path) -> None:
    """A file system of 1 MB in the place of the machine's memory; the kernel would kill whoever touches more."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("only root may mount")
    try:
        from edge_apps.camera.capture.frame_slot import PIXELS, Writer

        descriptors = []
        for number in range(3):
            file = folder / str(number)
            file.write_bytes(bytes(PIXELS))
            descriptors.append(os.open(file, os.O_RDWR))
        writer = Writer(descriptors)
        writer.write(np.zeros((10, 10, 3), np.uint8), 1.0, 1, 1)
        with pytest.raises(OSError, match="No space left"):
            writer.write(np.zeros((1000, 1000, 3), np.uint8), 1.0, 1, 1)
        for memory in writer._memories:
            memory.close()
    finally:
        subprocess.run(["umount", str(folder)], check=True)
