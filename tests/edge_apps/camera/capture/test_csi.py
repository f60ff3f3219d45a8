"""CSI cameras: which program is used, how it is called, and frames through its pipe, with programs that pretend."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_apps.camera.capture import csi, grabbers
from edge_apps.camera.capture.messages import Csi, Request
from edge_apps.camera.sources import live_source
from edge_apps.camera.sources.parse import Event, Frame, SourceOptions, parse_source
from edge_apps.errors import BadInput

FAKE = """#!{python}
import os, sys, time
import cv2, numpy as np
arguments = sys.argv[1:]
open({seen!r}, "a").write(repr(arguments) + "\\n")
if "--list-cameras" in arguments:
    print("Available cameras\\n-----------------\\n0 : imx219 [3280x2464 10-bit RGGB] (/base/i2c@1/imx219@10)")
    print("    Modes: 'SRGGB10_CSI2P' : 640x480 [206.65 fps]\\n1 : ov5647 [2592x1944] (/base/i2c@0/ov5647@36)")
    sys.exit(0)
def after(name, default):
    return arguments[arguments.index(name) + 1] if name in arguments else default
width, height = int(after("--width", 320)), int(after("--height", 240))
descriptor = 1
for word in arguments:
    if word.startswith("fd="):
        descriptor = int(word[3:])
        print("GST_ARGUS: Creating output stream", flush=True)  # to stdout, as the real one does
{body}
def show(grey):
    jpeg = bytes(cv2.imencode(".jpg", np.full((height, width, 3), grey, np.uint8))[1])
    while jpeg:
        jpeg = jpeg[os.write(descriptor, jpeg):]
    time.sleep(0.02)
for n in range({frames}):
    show(n * 3 % 250)
print("ERROR: *** the sensor went away ***", file=sys.stderr, flush=True)
sys.exit(7)
"""


class Programs:
    """A folder on PATH with programs that pretend."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls.txt"

    def add(self, name: str, body: str = "", frames: int = 10**9) -> Path:
        path = self.folder / name
        script = FAKE.format(python=sys.executable, seen=str(self.calls), body=body, frames=frames)
        path.write_text(script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def called(self) -> list[list[str]]:
        return [eval(line) for line in self.calls.read_text().splitlines()] if self.calls.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(live_source, "SHORTEST", 0.02)
    monkeypatch.setattr(live_source, "LONGEST", 0.1)
    return Programs(folder)


def take(source, until) -> list:
    items: list = []
    end = time.monotonic() + 40
    source.stop = lambda: time.monotonic() > end
    for item in source:
        items.append(item)
        if until(items):
            return items
    raise AssertionError(items)


def frames(items: list) -> list[Frame]:
    return [item for item in items if isinstance(item, Frame)]


def test_a_pi_camera_gives_its_frames(programs: Programs) -> None:
    programs.add("rpicam-vid")
    source = parse_source("csi:1", SourceOptions(size=(64, 48), fps=50))
    items = take(source, lambda items: len(items) >= 5)
    assert all(isinstance(item, Frame) for item in items)
    assert items[0].image.shape == (48, 64, 3)
    greys = [round(float(frame.image.mean())) for frame in items]
    assert greys == sorted(set(greys))
    (call,) = programs.called()
    assert " ".join(call) == (
        "--camera 1 --codec mjpeg --width 64 --height 48 --framerate 50 --timeout 0 --nopreview --flush --verbose 0 "
        "--output -"
    )


def test_it_gives_the_size_that_networks_like_when_nobody_asks(programs: Programs) -> None:
    programs.add("libcamera-vid")
    items = take(parse_source("csi:0"), frames)
    assert items[0].image.shape == (480, 640, 3)


def test_a_program_that_ends_is_started_again_and_its_words_are_told(programs: Programs) -> None:
    programs.add("rpicam-vid", frames=10)

    def until(items: list) -> bool:
        return any(isinstance(item, Event) and item.kind == "back" for item in items)

    items = take(parse_source("csi:0"), until)
    events = [item for item in items if isinstance(item, Event)]
    assert [event.kind for event in events] == ["lost", "restarted", "back"]
    assert "'rpicam-vid' ended with status 7 (ERROR: *** the sensor went away ***)" in events[0].reason


def test_another_size_than_asked_for_is_told(programs: Programs) -> None:
    programs.add("rpicam-vid", body="width, height = 32, 24")
    items = take(parse_source("csi:0", SourceOptions(size=(64, 48))), lambda items: len(items) > 3)
    (differs,) = [item for item in items if isinstance(item, Event)]
    assert differs.kind == "differs"
    assert differs.reason == "csi:0: Asked for 64x48; the camera gives 32x24."


def test_another_rate_than_asked_for_is_told(programs: Programs) -> None:
    programs.add("rpicam-vid", body="width, height = 32, 24")
    source = parse_source("csi:0", SourceOptions(size=(32, 24), fps=400))
    items = take(source, lambda items: isinstance(items[-1], Event))
    assert items[-1].kind == "differs"
    assert "Asked for 400 frames a second; the camera gives " in items[-1].reason


def test_the_program_ends_with_the_source(programs: Programs) -> None:
    programs.add("rpicam-vid", body=f"open({str(programs.folder / 'pid')!r}, 'w').write(str(os.getpid()))")
    take(parse_source("csi:0"), frames)
    assert gone(int((programs.folder / "pid").read_text()))


def test_a_program_that_hangs_ends_when_we_are_killed(programs: Programs) -> None:
    """It holds the camera and writes nothing, so that no closed pipe ends it."""
    pid = programs.folder / "pid"
    body = f"open({str(pid)!r}, 'w').write(str(os.getpid()))\nwhile True: time.sleep(1)"
    programs.add("rpicam-vid", body=body)
    code = "from edge_apps.camera.sources.parse import parse_source\nfor item in parse_source('csi:0'): pass"
    with subprocess.Popen([sys.executable, "-c", code]) as program:
        end = time.monotonic() + 30
        while not (pid.exists() and pid.read_text()) and time.monotonic() < end:
            time.sleep(0.02)
        program.kill()
    assert gone(int(pid.read_text()))


def gone(pid: int) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X"):
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_a_jetson_camera_has_a_descriptor_of_its_own(programs: Programs) -> None:
    programs.add("gst-launch-1.0")
    inspect = programs.folder / "gst-inspect-1.0"
    inspect.write_text("#!/bin/sh\nexit 0\n")
    inspect.chmod(0o755)
    items = take(parse_source("csi:2", SourceOptions(size=(320, 240), fps=29.97)), lambda items: len(frames(items)) > 2)
    assert len(frames(items)) == len(items), "what it says on stdout is no part of the stream"
    (call,) = programs.called()
    descriptor = next(word for word in call if word.startswith("fd="))
    assert " ".join(call) == (
        "-q nvarguscamerasrc sensor-id=2 ! video/x-raw(memory:NVMM),width=320,height=240,framerate=29970/1000,"
        f"format=NV12 ! nvjpegenc ! fdsink {descriptor} sync=false"
    )
    inspect.write_text('#!/bin/sh\n[ "$2" = nvarguscamerasrc ]\n')
    tool = csi.find_tool()
    assert tool is not None
    assert "! nvvidconv ! video/x-raw,format=I420 ! jpegenc ! fdsink" in " ".join(tool.command(0, None, None))
    inspect.write_text("#!/bin/sh\nexit 1\n")
    assert csi.find_tool() is None, "GStreamer without Argus is no Jetson"


def test_the_first_of_them_is_taken(programs: Programs, tmp_path: Path) -> None:
    assert csi.find_tool(tmp_path) is None
    (tmp_path / csi.PICAMERA2).mkdir(parents=True)
    python = tmp_path / csi.SYSTEM_PYTHON
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    tool = csi.find_tool(tmp_path)
    assert tool is not None
    assert tool.name == "picamera2"
    assert tool.command(1, (64, 48), None)[2:][1:] == ("1", "64", "48", "30")
    for name in ("libcamera-vid", "rpicam-vid"):
        programs.add(name)
        tool = csi.find_tool(tmp_path)
        assert tool is not None
        assert tool.name == name


def test_without_a_program_it_is_said_what_to_install(programs: Programs) -> None:
    assert programs.called() == []
    with pytest.raises(BadInput, match=r"No program for CSI cameras .* 'sudo apt install rpicam-apps-lite'"):
        parse_source("csi:0")


def test_a_program_that_is_not_there_yet_is_waited_for(programs: Programs) -> None:
    def until(items: list) -> bool:
        if len(items) == 2:
            programs.add("rpicam-vid")
        return bool(frames(items))

    items = take(parse_source("csi:0", SourceOptions(wait_for_source=True)), until)
    assert items[0].kind == "lost"
    assert "JetPack. Again in" in items[0].reason, "no word of an option that was given"
    assert items[-2].kind == "back"


def test_it_ends_while_the_program_is_looked_for(programs: Programs) -> None:
    """``gst-inspect-1.0`` may hang: nobody waits for it, and it does not stay behind."""
    programs.add("gst-launch-1.0")
    inspect, pid = programs.folder / "gst-inspect-1.0", programs.folder / "pid"
    inspect.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec /bin/sleep 60\n")
    inspect.chmod(0o755)
    source = parse_source("csi:0", SourceOptions(wait_for_source=True))
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 5 and pid.exists() and bool(pid.read_text())

    source.stop = stop
    assert list(source) == [], "it did not wait for an answer"
    assert gone(int(pid.read_text()))


def test_sensors_are_listed_by_number(programs: Programs) -> None:
    tool = csi.Tool("rpicam-vid", str(programs.add("rpicam-vid")))
    assert csi.list_cameras(tool) == ["imx219", "ov5647"]
    assert csi.list_cameras(csi.Tool("picamera2", "/usr/bin/python3")) is None
    assert csi.list_cameras(csi.Tool("rpicam-vid", "/no/such/program")) is None


PICAMERA2 = {
    "__init__.py": """
import numpy as np, cv2, time, threading
class Picamera2:
    def __init__(self, number): self.number = number
    @staticmethod
    def global_camera_info(): return [{}, {}]
    def create_video_configuration(self, main, controls): return main, controls
    def configure(self, configuration): self.configuration = configuration
    def start_recording(self, encoder, output):
        (main, controls) = self.configuration
        assert controls == {"FrameDurationLimits": (20000, 20000)}
        width, height = main["size"]
        def write():
            for n in range(10**9):
                picture = np.full((height, width, 3), 100 + self.number, np.uint8)
                output.stream.write(bytes(cv2.imencode(".jpg", picture)[1])); output.stream.flush()
                time.sleep(0.02)
        threading.Thread(target=write, daemon=True).start()
""",
    "encoders.py": "class JpegEncoder: pass\n",
    "outputs.py": "class FileOutput:\n    def __init__(self, stream): self.stream = stream\n",
}


def test_picamera2_is_run_by_the_systems_python(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "site/picamera2"
    package.mkdir(parents=True)
    for name, code in PICAMERA2.items():
        (package / name).write_text(code)
    system = tmp_path / "python3"  # has picamera2 of its own, as the system's Python has
    own = f"import runpy, sys; sys.path.insert(0, {str(package.parent)!r}); sys.argv.pop(0)"
    run = "runpy.run_path(sys.argv[0], run_name='__main__')"
    system.write_text(f'#!/bin/sh\n[ "$1" = -I ] && shift && exec {sys.executable} -I -c "{own}; {run}" "$@"\n')
    system.chmod(0o755)
    # What this program imports is nothing that the system's Python should.
    (tmp_path / "ours/picamera2").mkdir(parents=True)
    (tmp_path / "ours/picamera2/__init__.py").write_text("raise ImportError('of another Python')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "ours"), os.environ.get("PYTHONPATH", "")]))
    assert programs.called() == []
    tool = csi.Tool("picamera2", str(system))
    monkeypatch.setattr(grabbers, "find_tool", lambda: tool)
    shots = grabbers.shots(Request(camera=Csi(1), size=(64, 48), fps=50, patience=30))
    image = next(shots).decode()
    assert image.shape == (48, 64, 3)
    assert abs(image.mean() - 101) < 2
    with pytest.raises(grabbers.Lost, match="ended with status 1"):
        next(grabbers.shots(Request(camera=Csi(5), fps=50, patience=30)))
    assert "there is no camera 5; libcamera sees 2\n" in capfd.readouterr().err
