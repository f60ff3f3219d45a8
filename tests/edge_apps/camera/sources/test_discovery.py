"""Which cameras a machine has: a made-up sysfs, and a driver that answers as ``linux/videodev2.h`` says."""

import errno
import json
import os
import shutil
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from edge_apps.camera.capture import v4l2
from edge_apps.camera.capture.csi import Tool
from edge_apps.camera.capture.uri import parse_uri
from edge_apps.camera.sources import discovery, show
from edge_apps.camera.sources.discovery import check_device, check_host, list_devices
from edge_apps.camera.sources.show import Sources, list_sources
from edge_apps.console import print_parts
from edge_apps.errors import BadInput


class Driver:
    """Answers the ioctls of one kind of device; written against the C header, not against ``v4l2.py``."""

    def __init__(self, driver: str, card: str, caps: int, formats: dict[str, list[tuple[int, int]]]) -> None:
        self.driver, self.card, self.caps, self.formats = driver, card, caps, formats

    def __call__(self, descriptor: int, code: int, answer: bytearray) -> None:  # noqa: ARG002 - as fcntl.ioctl
        if code == 0x80685600:  # VIDIOC_QUERYCAP
            assert len(answer) == 104
            answer[0:16] = self.driver.encode().ljust(16, b"\0")
            answer[16:48] = self.card.encode().ljust(32, b"\0")
            # capabilities of the whole device (metadata too), then those of this node
            answer[80:92] = struct.pack("<III", 0x060100, 0x84A00001, self.caps)
            answer[84:92] = struct.pack("<II", 0x84A00001, self.caps)
        elif code == 0xC0405602:  # VIDIOC_ENUM_FMT
            assert len(answer) == 64
            index, kind = struct.unpack("<II", answer[:8])
            if kind != 1 or index >= len(self.formats):
                raise OSError(errno.EINVAL, "no more")
            answer[44:48] = list(self.formats)[index].encode()
        elif code == 0xC02C564A:  # VIDIOC_ENUM_FRAMESIZES
            assert len(answer) == 44
            index, pixels = struct.unpack("<I4s", answer[:8])
            sizes = self.formats[pixels.decode()]
            if index >= len(sizes):
                raise OSError(errno.EINVAL, "no more")
            if len(sizes[index]) == 6:
                answer[8:36] = struct.pack("<I6I", 3, *sizes[index])
            else:
                answer[8:20] = struct.pack("<III", 1, *sizes[index])
        else:
            raise AssertionError(hex(code))


WEBCAM = Driver(
    "uvcvideo", "HD Pro Webcam C920", 0x04200001, {"MJPG": [(160, 120), (640, 480), (1920, 1080)], "YUYV": [(640, 480)]}
)


def machine(root: Path, *nodes: tuple[int, str, int]) -> Path:
    """``(number, name, index)`` of each video node."""
    (root / "dev").mkdir()
    for number, name, index in nodes:
        folder = root / f"sys/class/video4linux/video{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "index").write_text(f"{index}\n")
        (root / f"dev/video{number}").touch()
    return root


@pytest.mark.skipif(
    not shutil.which("gcc") or not Path("/usr/include/linux/videodev2.h").exists(), reason="no C header"
)
def test_the_numbers_are_those_of_the_c_header(tmp_path: Path) -> None:
    names = ["VIDIOC_QUERYCAP", "VIDIOC_ENUM_FMT", "VIDIOC_ENUM_FRAMESIZES"]
    sizes = ["struct v4l2_capability", "struct v4l2_fmtdesc", "struct v4l2_frmsizeenum"]
    values = [*(f"(unsigned long) {name}" for name in names), *(f"(unsigned long) sizeof({name})" for name in sizes)]
    body = "".join(f'printf("%lu ", {value});' for value in values)
    source = f"#include <linux/videodev2.h>\n#include <stdio.h>\nint main(void) {{ {body} return 0; }}\n"
    (tmp_path / "v.c").write_text(source)
    subprocess.run(["gcc", str(tmp_path / "v.c"), "-o", str(tmp_path / "v")], check=True)
    said = subprocess.run([str(tmp_path / "v")], capture_output=True, text=True, check=True).stdout
    own = [v4l2.QUERYCAP, v4l2.ENUM_FMT, v4l2.ENUM_FRAMESIZES]
    own += [layout.size for layout in (v4l2.CAPABILITY, v4l2.FORMAT, v4l2.FRAME_SIZE)]
    assert list(map(int, said.split())) == own


def test_a_webcam_says_what_it_can(tmp_path: Path) -> None:
    root = machine(tmp_path, (10, "second", 0), (2, "HD Pro Webcam C920", 0))
    first, second = list_devices(root, WEBCAM)
    assert (first.source, first.node, first.name, first.state) == ("usb:2", "/dev/video2", "HD Pro Webcam C920", "")
    assert first.formats == (
        v4l2.Format("MJPG", ("160x120", "640x480", "1920x1080")),
        v4l2.Format("YUYV", ("640x480",)),
    )
    assert second.source == "usb:10"


def test_a_range_of_sizes_is_one_word(tmp_path: Path) -> None:
    driver = Driver("rp1-cfe", "rp1-cfe", 0x04200001, {"pRAA": [(16, 16376, 16, 17, 16377, 1)]})  # type: ignore[list-item]
    (camera,) = list_devices(machine(tmp_path, (0, "rp1-cfe-csi2_ch0", 0)), driver)
    assert camera.formats == (v4l2.Format("pRAA", ("16x17 to 16376x16377",)),)
    assert camera.state == "a bare sensor: use csi:N"


def test_nodes_that_give_no_pictures_are_left_out(tmp_path: Path) -> None:
    metadata = Driver("uvcvideo", "HD Pro Webcam C920", 0x04A00000, {})
    assert list_devices(machine(tmp_path, (1, "HD Pro Webcam C920", 1)), metadata) == []


@pytest.mark.parametrize("driver", ["bcm2835-isp", "pispbe"])
def test_an_image_processor_is_no_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """A Raspberry Pi without any camera has several of its nodes, which say that they capture."""
    processor = Driver(driver, driver, 0x04200001, {"YUYV": [(32, 32, 16384, 2, 16384, 2)]})  # type: ignore[list-item]
    root = machine(tmp_path, (14, f"{driver}-capture0", 0))
    assert list_devices(root, processor) == []
    monkeypatch.setattr(v4l2, "query", lambda _: v4l2.Device(driver, driver, True, ()))
    with pytest.raises(BadInput, match="gives no pictures"):
        check_device(Path("/dev/null"))


def test_a_device_that_does_not_answer_is_listed_with_the_reason(tmp_path: Path) -> None:
    """As files in the place of devices do; the further node of a silent camera is passed over."""
    root = machine(tmp_path, (0, "Some Camera", 0), (1, "Some Camera", 1))
    (camera,) = list_devices(root)
    assert (camera.source, camera.name) == ("usb:0", "Some Camera")
    assert camera.state == f"cannot be asked: {os.strerror(errno.ENOTTY)}"


def test_a_driver_that_never_comes_to_an_end_is_cut_off(tmp_path: Path) -> None:
    class Endless(Driver):
        def __call__(self, descriptor: int, code: int, answer: bytearray) -> None:
            if code == 0xC02C564A:
                answer[8:20] = struct.pack("<III", 1, 640, 480)
            else:
                super().__call__(descriptor, code, answer)

    (camera,) = list_devices(machine(tmp_path, (0, "x", 0)), Endless("d", "c", 1, {"MJPG": []}))
    assert len(camera.formats[0].sizes) == v4l2.MOST


def test_a_machine_without_cameras(tmp_path: Path) -> None:
    assert list_devices(tmp_path) == []


def refused(errors: type[OSError], number: int):
    def query(path: Path) -> v4l2.Device:
        raise errors(number, os.strerror(number), str(path))

    return query


def test_what_may_pass_is_no_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Path("/dev/null")  # a character device, as a camera is one
    for number in (errno.EBUSY, errno.ENODEV):
        monkeypatch.setattr(discovery.v4l2, "query", refused(OSError, number))
        check_device(device)
    monkeypatch.setattr(discovery.v4l2, "query", refused(PermissionError, errno.EACCES))
    with pytest.raises(BadInput, match="add this user to the group 'video'"):
        check_device(device)
    monkeypatch.setattr(discovery.v4l2, "query", lambda path: v4l2.Device("uvcvideo", "C920", False, ()))  # noqa: ARG005
    with pytest.raises(BadInput, match=r"'/dev/null' gives no pictures \(C920, driver uvcvideo\)"):
        check_device(device)
    monkeypatch.setattr(discovery.v4l2, "query", lambda path: v4l2.Device("uvcvideo", "C920", True, ()))  # noqa: ARG005
    check_device(device)


def test_a_host_that_nobody_knows_is_refused_but_not_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = parse_uri("rtsp://user:secret@camera.lan:554/1")

    def fails(number: int):
        def getaddrinfo(*_: object) -> None:
            raise socket.gaierror(number, "as the resolver says it")

        return getaddrinfo

    monkeypatch.setattr(discovery.socket, "getaddrinfo", fails(socket.EAI_NONAME))
    with pytest.raises(BadInput, match=r"Unknown host 'camera.lan' in 'rtsp://\*\*\*@camera.lan:554/1'") as error:
        check_host(uri)
    assert "secret" not in str(error.value)
    monkeypatch.setattr(discovery.socket, "getaddrinfo", fails(socket.EAI_AGAIN))
    check_host(uri)
    check_host(parse_uri("http://127.0.0.1:1/"))


def test_the_list_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = list_sources(machine(tmp_path, (0, "HD Pro Webcam C920", 0)), WEBCAM)
    print_parts(show.as_parts(found))
    said = capsys.readouterr().out
    (webcam,) = [line for line in said.splitlines() if line.startswith("usb:0")]
    assert webcam.split(maxsplit=1)[1].rstrip() == (
        "HD Pro Webcam C920 (/dev/video0)                  MJPG 160x120 … 1920x1080; YUYV 640x480"
    )
    assert all(f"\n{kind}" in said for kind in ("rtsp://", "http://", "video:FILE", "folder:PATH", "test-pattern"))
    assert "No program for CSI cameras" in said
    print_parts(show.as_parts(Sources([], Tool("rpicam-vid", "/x"), ["imx219", "ov5647"])))
    said = capsys.readouterr().out
    assert "csi:1" in said
    assert "ov5647, by rpicam-vid" in said
    assert "No video device" in said
    print_parts(show.as_parts(Sources([], Tool("rpicam-vid", "/x"), [])))
    assert "rpicam-vid is there, and sees no camera" in capsys.readouterr().out
    print_parts(show.as_parts(Sources([], Tool("picamera2", "/x"), None)))
    assert "a CSI camera, by picamera2" in capsys.readouterr().out


def test_the_list_for_programs(edge_camera) -> None:
    result = edge_camera("sources", "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert set(document) == {"devices", "csi", "always"}
    assert {"test-pattern"} <= {entry["source"] for entry in document["always"]}
    assert edge_camera("sources").stdout.startswith("source")
