"""Who a device is: an id that stays, and a name for people."""

import errno
import os
import socket
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from edge_apps.errors import BadInput
from edge_apps.runtime import identity
from edge_apps.runtime.identity import LONGEST_NAME, check_name, default_name, identify, short, stored_id


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a home of its own."""
    return {"HOME": str(tmp_path / "home")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine without a device tree and without a service."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def with_serial(tmp_path: Path, serial: str) -> Path:
    root = tmp_path / f"board-{serial}"
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "proc/device-tree/serial-number").write_bytes(serial.encode() + b"\0")
    return root


def file_in(home: dict[str, str]) -> Path:
    return Path(home["HOME"]) / ".local/state/edge-pipeline/device-id"


def test_the_id_is_made_once_and_stays(home, root: Path) -> None:
    assert stored_id(environ=home, root=root) is None
    assert not Path(home["HOME"]).exists(), "looking writes nothing"
    first = identify(environ=home, root=root)
    assert uuid.UUID(first.id).version == 4
    assert (first.fault, first.name) == ("", default_name())
    assert identify(environ=home, root=root) == first
    assert stored_id(environ=home, root=root) == first.id
    path = file_in(home)
    assert path.read_text() == f"{first.id}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["device-id"], "nothing is left beside it"


def test_two_installations_are_two_devices(tmp_path: Path, root: Path) -> None:
    ids = {identify(environ={"HOME": str(tmp_path / name)}, root=root).id for name in "abc"}
    assert len(ids) == 3


def test_a_new_name_is_no_new_device(home, root: Path) -> None:
    before, after = (identify(name, environ=home, root=root) for name in ("kitchen-pi", "garage-pi"))
    assert (before.name, after.name) == ("kitchen-pi", "garage-pi")
    assert before.id == after.id


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"XDG_STATE_HOME": "{}/state"}, "state/edge-pipeline"),
        ({"XDG_STATE_HOME": "{}/state", "STATE_DIRECTORY": "{}/service"}, "service"),
        ({"STATE_DIRECTORY": "{}/service:{}/other", "HOME": "{}"}, "service"),
        ({"XDG_STATE_HOME": "relative", "HOME": "{}"}, ".local/state/edge-pipeline"),
        ({"XDG_STATE_HOME": "", "HOME": "{}"}, ".local/state/edge-pipeline"),
    ],
)
def test_where_it_lies(environ: dict[str, str], place: str, tmp_path: Path, root: Path) -> None:
    known = {name: value.replace("{}", str(tmp_path)) for name, value in environ.items()}
    made = identify(environ=known, root=root)
    assert (tmp_path / place / "device-id").read_text() == f"{made.id}\n"
    assert made.fault == ""


def test_a_service_and_its_users_terminal_are_one_device(home, root: Path) -> None:
    """Whichever ran first: systemd names the service's folder, which only its user may look into."""
    folder = root / identity.SERVICE_FOLDER
    in_service = {**home, "STATE_DIRECTORY": str(folder)}
    service = identify(environ=in_service, root=root)
    assert (folder / "device-id").exists()
    assert identify(environ=home, root=root).id == service.id
    assert not file_in(home).exists()
    (folder / "device-id").unlink()
    terminal = identify(environ=home, root=root)
    assert terminal.id != service.id
    assert identify(environ=in_service, root=root).id == terminal.id


def test_a_copied_card_is_another_device_in_another_board(home, tmp_path: Path) -> None:
    """And the same one again, back in the first: the file alone never changes."""
    boards = [with_serial(tmp_path, serial) for serial in ("10000000a1b2c3d4", "10000000ffffffff")]
    first, other = (identify(environ=home, root=root).id for root in boards)
    assert first != other
    assert identify(environ=home, root=boards[0]).id == first
    assert stored_id(environ=home, root=boards[1]) == other
    assert "a1b2c3d4" not in first


def test_one_board_with_two_installations_is_told_apart_too(tmp_path: Path) -> None:
    """Or the serial number could be found out by trying."""
    board = with_serial(tmp_path, "10000000a1b2c3d4")
    assert len({identify(environ={"HOME": str(tmp_path / name)}, root=board).id for name in "ab"}) == 2


@pytest.mark.parametrize(
    "content", [b"", bytes(37), b"\xff\xfe", b"kitchen-pi\n", b"3f2a91c0-6f0e-4b6a\n", b"9" * 5000]
)
def test_a_damaged_file_is_set_aside_and_told_once(home, root: Path, content: bytes) -> None:
    path = file_in(home)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    healed = identify(environ=home, root=root)
    assert healed.fault == (
        f"The id of this device in '{path}' was damaged; the file was set aside as 'device-id.damaged'. The log shows "
        "this device as a new one from now on."
    )
    assert path.with_name("device-id.damaged").read_bytes() == content
    assert identify(environ=home, root=root) == identity.Identity(healed.id, healed.name)


def test_where_nothing_can_be_stored_each_run_has_an_id_and_says_so(root: Path) -> None:
    runs = [identify(environ={"XDG_STATE_HOME": "/proc"}, root=root) for _ in range(2)]
    assert runs[0].id != runs[1].id, "never that of another device"
    assert runs[0].fault == (
        "The id of this device cannot be stored ('/proc/edge-pipeline/device-id': No such file or directory). The log "
        "shows this run as a device of its own: set XDG_STATE_HOME to a folder that can be written and stays."
    )


def test_a_read_only_disk(root: Path, home, monkeypatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    assert "device-id': Read-only file system)" in identify(environ=home, root=root).fault


def test_a_folder_in_its_place_is_left_alone(home, root: Path) -> None:
    file_in(home).mkdir(parents=True)
    assert "Is a directory" in identify(environ=home, root=root).fault
    assert file_in(home).is_dir()


def test_a_user_without_a_home(root: Path, monkeypatch) -> None:
    def nobody(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert "(there is no home folder)" in identify(environ={}, root=root).fault


def test_a_file_system_without_hard_links(home, root: Path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    made = identify(environ=home, root=root)
    assert (made.fault, stored_id(environ=home, root=root)) == ("", made.id)


def test_programs_that_start_together_agree(home) -> None:
    code = "from edge_apps.runtime.identity import identify; print(identify().id)"
    environ = {**os.environ, "XDG_STATE_HOME": str(Path(home["HOME"]) / "state")}
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environ) for _ in range(4)]
    assert len({program.communicate(timeout=60)[0] for program in started}) == 1


@pytest.mark.parametrize("name", ["a", "kitchen-pi", "Küche 2", "日本語", "x" * LONGEST_NAME, "$\\frac{1}{2}$ [bold]"])
def test_names_that_can_be(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", " a", "a ", "a\nb", "a\tb", "\x1b[2J", "a\u202eb", "\udcff", "x" * (LONGEST_NAME + 1), "y" * 9999]
)
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(BadInput, match=r"^`device_name` is '.*'; it takes 1 to 64 printable characters") as error:
        check_name(name)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("host", "name"),
    [("raspberrypi", "raspberrypi"), ("pi.lan", "pi.lan"), ("a\nb ", "ab"), ("", ""), ("h" * 99, "h" * 64)],
)
def test_the_host_name_is_the_default(host: str, name: str, monkeypatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert default_name() == name


def test_what_people_are_shown_of_an_id() -> None:
    assert short("3f2a91c0-6f0e-4b6a-9a51-0c2f3d4e5f60") == "3f2a91c0"
    assert short("abcdef012345") == "abcdef012345"
