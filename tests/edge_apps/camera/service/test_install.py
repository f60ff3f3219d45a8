"""The unit, as systemd itself reads it, and what installing does."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_apps.camera.commands.config import options_in
from edge_apps.camera.commands.main import main
from edge_apps.camera.service import install as service
from edge_apps.camera.service.install import Configured, advice, install, plan
from edge_apps.errors import BadInput, EdgeError, MissingExtra
from edge_apps.images import write_png


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "my camera 100%" / "camera.toml"
    path.parent.mkdir()
    path.write_text('model = "bundle"\nsource = "test-pattern"\n')
    (path.parent / "bundle").mkdir()
    return path


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that writes down how it was called, and fails when the file ``refuse`` is there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "systemctl"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/calls\n'
        f'if [ -e {folder}/refuse ]; then echo "Failed to enable unit: Access denied" >&2; exit 4; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@contextlib.contextmanager
def not_root() -> Iterator[None]:
    """Files are opened as by nobody, where the tests run as root."""
    user = os.geteuid()
    if user:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="NOT RUN: no systemd-analyze here")
@pytest.mark.parametrize("for_user", [False, True])
def test_systemd_finds_nothing_wrong_with_the_unit(config: Path, tmp_path: Path, for_user: bool) -> None:
    path = tmp_path / "edge-camera.service"
    path.write_text(plan(config, Configured(), for_user=for_user).unit)
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *(["--user"] if for_user else []), path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in ended.stderr.splitlines() if "edge-camera.service" in line]
    assert ours == [], ended.stderr


def test_what_the_unit_says(config: Path) -> None:
    config.write_text('model = "/mnt/usb/bundle"\nlog = "latency.db"\nsource = "Folder:../pictures"\n')
    unit = plan(config, Configured.of(options_in(config, main.commands["run"]))).unit
    folder, pictures = (str(path).replace("%", "%%") for path in (config.parent, config.parent.parent / "pictures"))
    assert f'RequiresMountsFor="{folder}" "/mnt/usb/bundle" "{folder}/latency.db" "{pictures}"\n' in unit
    assert "Type=notify\n" in unit
    assert "WatchdogSec=60\n" in unit
    assert "Restart=always\n" in unit
    assert 'run --quiet --config "' in unit
    assert "my camera 100%%/camera.toml" in unit
    assert "\nUser=" in unit
    assert "WantedBy=multi-user.target" in unit
    user = plan(config, Configured(), for_user=True).unit
    assert "\nStateDirectory=edge-pipeline\nStateDirectoryMode=0700\n" in unit, "for the id of the device"
    assert "StateDirectory" not in user, "a user's own folder can be written"
    assert "\nUser=" not in user
    assert "Nice=" not in user
    assert "WantedBy=default.target" in user


def test_the_service_is_not_roots_because_sudo_installs_it(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "anna")
    assert "\nUser=anna\n" in plan(config, Configured()).unit


def test_the_unit_is_the_same_wherever_it_is_made(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a path with '..' in it, which systemd does not take."""
    options = Configured.of(options_in(config, main.commands["run"]))
    elsewhere = config.parent.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    by_another = Path("..", config.parent.name, config.name)
    assert (
        plan(by_another, Configured.of(options_in(by_another, main.commands["run"]))).unit == plan(config, options).unit
    )


def test_a_configuration_of_relative_paths_is_installed_from_elsewhere(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(
        'model = "bundle"\nsource = "folder:pictures"\nlog = "l.db"\n'
        'log-max-size = "1G"\nweb = "0.0.0.0:8080"\nweb-token-file = "token"\n'
    )
    (config.parent / "pictures").mkdir()
    write_png(config.parent / "pictures" / "one.png", np.zeros((9, 9, 3), np.uint8))
    (config.parent / "token").write_text("0123456789abcdef01234567")
    (config.parent / "token").chmod(0o600)
    elsewhere = config.parent.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    shown = CliRunner().invoke(main, ["install-service", str(Path("..", config.parent.name, config.name))])
    assert shown.exit_code == 0, shown.output
    assert "Note: " not in shown.output


def test_installing_writes_the_unit_and_starts_it(config: Path, systemctl: Path, tmp_path: Path) -> None:
    planned = plan(config, Configured(), name="door", root=tmp_path)
    assert planned.steps() == [
        f"write {tmp_path}/etc/systemd/system/door.service",
        "run systemctl daemon-reload",
        "run systemctl enable door",
        "run systemctl restart door",
    ]
    install(planned)
    assert (tmp_path / "etc/systemd/system/door.service").read_text() == planned.unit
    assert (systemctl / "calls").read_text().splitlines() == ["daemon-reload", "enable door", "restart door"]


@pytest.mark.parametrize(
    ("for_user", "words"), [(False, "use sudo, or `user`"), (True, "Choose a folder that you can")]
)
def test_who_may_not_write_the_unit_is_told_what_to_do(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_user: bool, words: str
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    monkeypatch.setenv("HOME", str(locked))
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/systemctl")
    service = plan(config, Configured(), for_user=for_user, root=locked)
    with not_root(), pytest.raises(BadInput, match=f"{words}.*"):
        install(service)


def test_what_systemd_refuses_is_said(config: Path, systemctl: Path, tmp_path: Path) -> None:
    (systemctl / "refuse").touch()
    with pytest.raises(EdgeError, match="'systemctl daemon-reload' failed: Failed to enable unit: Access denied"):
        install(plan(config, Configured(), root=tmp_path))


def test_without_systemd_nothing_is_written(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra, match="not run by systemd"):
        install(plan(config, Configured(), root=tmp_path))
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 200])
def test_names_that_are_none(config: Path, name: str) -> None:
    with pytest.raises(BadInput, match="is no name for a unit"):
        plan(config, Configured(), name=name)


def test_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such configuration.*edge-camera config >"):
        plan(tmp_path / "none.toml", Configured())


@pytest.mark.parametrize(
    ("options", "hints"),
    [
        ({"source_text": "test-pattern"}, ["nothing is written down"]),
        ({"source_text": "usb:0", "log": "l.db"}, ["wait-for-source", "log-max-size"]),
        ({"source_text": "usb:0", "log": "l.db", "log_max_size": "1G", "wait_for_source": True}, []),
        ({"source_text": "test-pattern", "log": "l.db", "log_max_size": "1G", "model": "m"}, ["is not there"]),
        (
            {"source_text": "test-pattern", "log": "l.db", "log_max_size": "1G", "web": "0.0.0.0:8080"},
            ["without web-token-file"],
        ),
    ],
)
def test_what_a_service_had_better_have(config: Path, options: dict, hints: list[str]) -> None:
    said = advice(config, Configured(**{"model": str(config.parent / "bundle"), **options}))
    assert len(said) == len(hints)
    assert all(hint in line for hint, line in zip(hints, said, strict=True))


@pytest.mark.parametrize("scheme", ["rtsp", "HTTP"])
def test_a_password_is_for_one_reader(config: Path, scheme: str) -> None:
    options = {"model": "m", "source_text": f"{scheme}://user:secret@host/", "wait_for_source": True}
    config.chmod(0o644)
    with pytest.raises(BadInput, match="others can read it: chmod 600") as caught:
        advice(config, Configured(**options))
    assert "secret" not in str(caught.value)
    config.chmod(0o600)
    assert advice(config, Configured(**options))


@pytest.mark.parametrize("source", ["clip", "video:clip", "photo", "folder:photos", "not-mounted/clip.mp4"])
def test_the_disk_of_its_source_is_mounted_first(config: Path, source: str) -> None:
    (config.parent / "clip").write_bytes(b"a video?")
    (config.parent / "photo").write_bytes(b"\x89PNG\r\n\x1a\n")
    config.write_text(f'model = "bundle"\nsource = "{source}"\n')
    unit = plan(config, Configured.of(options_in(config, main.commands["run"]))).unit
    place = str(config.parent / source.rpartition(":")[2]).replace("%", "%%")
    (line,) = [line for line in unit.splitlines() if line.startswith("RequiresMountsFor")]
    assert f'"{place}"' in line


def test_a_service_needs_a_model_and_a_source(config: Path) -> None:
    with pytest.raises(BadInput, match="sets no source"):
        advice(config, Configured(model="m"))


def test_words_that_systemd_would_expand() -> None:
    assert service._quoted("/plain/path") == "/plain/path"
    assert service._quoted('a "b" $HOME 5%') == '"a \\"b\\" $$HOME 5%%"'


def test_the_command_only_shows_unless_it_is_told_to_do_it(config: Path, systemctl: Path) -> None:
    shown = CliRunner().invoke(main, ["install-service", str(config), "--user"])
    assert shown.exit_code == 0
    assert "Will run systemctl --user restart edge-camera" in shown.output
    assert "Nothing was done. Do it: add --yes." in shown.output
    assert not (systemctl / "calls").exists()
    for wrong, words in (("smooth = 'x'", "Unknown smoothing"), ("size = '640'", "is not WIDTHxHEIGHT")):
        config.write_text(f"model = 'm'\nsource = 'usb:99'\n{wrong}\n")
        refused = CliRunner().invoke(main, ["install-service", str(config)])
        assert refused.exit_code == 2
        assert words in refused.output
    config.write_text("modle = 'x'")
    refused = CliRunner().invoke(main, ["install-service", str(config)])
    assert refused.exit_code == 2
    assert "Did you mean 'model'?" in refused.output
