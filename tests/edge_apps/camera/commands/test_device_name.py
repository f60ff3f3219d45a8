"""A device in the log of ``edge-camera run`` and ``benchmark``: which one, and what it is called."""

import json
import socket
import sqlite3
from pathlib import Path

import pytest

from edge_apps.camera.log.summary import summarize_log


@pytest.fixture
def run(edge_camera, model: Path, tmp_path: Path, monkeypatch):
    """``run(log, *options, home="a")`` classifies two frames on the installation ``home``; what the program said."""

    def classify(log: Path, *options: object, home: str = "a", verb: str = "run"):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / home))
        short = ("--frames", 2) if verb == "run" else ("--seconds", 0, "--inferences", 1)
        return edge_camera(verb, "-m", model, "-s", "test-pattern", "--log", log, "--threads", 1, *short, *options)

    return classify


def sessions(log: Path) -> list[tuple[str, str]]:
    database = sqlite3.connect(log)
    rows = database.execute("SELECT device_id, device_name FROM session ORDER BY id").fetchall()
    database.close()
    return rows


def test_two_boards_of_one_kind_are_two_devices_and_two_runs_of_one_are_one(run, tmp_path: Path) -> None:
    log = tmp_path / "latency.db"
    for name, home in (("kitchen-pi", "a"), ("garage-pi", "b"), ("kitchen-pi", "a")):
        assert run(log, "--device-name", name, home=home).returncode == 0
    assert [(group.device_name, len(group.started)) for group in summarize_log(log)] == [
        ("kitchen-pi", 2),
        ("garage-pi", 1),
    ]
    stored = (tmp_path / "a/edge-pipeline/device-id").read_text().strip()
    assert sessions(log)[0] == (stored, "kitchen-pi")


def test_without_a_name_it_is_the_host_name(run, tmp_path: Path) -> None:
    said = run(tmp_path / "latency.db", "--json")
    session = json.loads(said.stdout.splitlines()[0])
    assert session["device_name"] == socket.gethostname()
    assert sessions(tmp_path / "latency.db") == [(session["device_id"], socket.gethostname())]


def test_a_renamed_device_is_one_device(run, tmp_path: Path, edge_camera) -> None:
    log = tmp_path / "latency.db"
    for name in ("kitchen-pi", "hall-pi"):
        run(log, "--device-name", name)
    assert [(group.device_name, len(group.started)) for group in summarize_log(log)] == [("hall-pi", 2)]
    assert edge_camera("log", "summary", log).stdout.startswith("hall-pi · ")


def test_the_configuration_names_it_and_the_command_line_wins(run, tmp_path: Path) -> None:
    config = tmp_path / "camera.toml"
    config.write_text('device-name = "kitchen-pi"\n')
    run(tmp_path / "latency.db", "--config", config)
    run(tmp_path / "latency.db", "--config", config, "--device-name", "hall-pi")
    assert [name for _, name in sessions(tmp_path / "latency.db")] == ["kitchen-pi", "hall-pi"]


def test_a_benchmark_is_of_the_same_device(run, tmp_path: Path) -> None:
    log = tmp_path / "latency.db"
    run(log, "--device-name", "kitchen-pi")
    said = run(log, "--device-name", "hall-pi", "--json", verb="benchmark")
    assert said.returncode == 0
    first, second = sessions(log)
    session = json.loads(said.stdout)["session"]
    assert (session["device_id"], session["device_name"]) == second == (first[0], "hall-pi")
    shown = run(log, "--device-name", "hall-pi", verb="benchmark").stdout.splitlines()
    assert shown[0].startswith("hall-pi · ")
    assert [line.split()[0] for line in shown if line.startswith(("end-to-end", "infer ", "total"))] == [
        "end-to-end",
        "infer",
    ]


@pytest.mark.parametrize("verb", ["run", "benchmark"])
@pytest.mark.parametrize("name", ["", "two\nlines", "x" * 65, " kitchen-pi"])
def test_a_name_that_cannot_be_is_refused_before_anything_is_written(run, tmp_path: Path, verb: str, name: str) -> None:
    said = run(tmp_path / "latency.db", "--device-name", name, verb=verb)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("Error: --device-name is '")
    assert said.stderr.count("\n") == 1
    assert not (tmp_path / "latency.db").exists()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("value", "says"), [('" a"', "it takes 1 to 64 printable"), ("7", "it takes a text in quotes")]
)
def test_a_configuration_with_such_a_name_is_refused(run, tmp_path: Path, value: str, says: str) -> None:
    (tmp_path / "camera.toml").write_text(f"device-name = {value}\n")
    said = run(tmp_path / "latency.db", "--config", tmp_path / "camera.toml")
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert says in said.stderr


@pytest.mark.parametrize("verb", ["run", "benchmark"])
def test_where_no_id_can_be_stored_it_is_told_once_and_the_run_goes_on(run, tmp_path: Path, verb: str) -> None:
    log = tmp_path / "latency.db"
    (tmp_path / "taken").write_text("a file where the folder should be")
    said = [run(log, home="taken", verb=verb) for _ in range(2)]
    assert [each.returncode for each in said] == [0, 0]
    assert said[0].stderr.count("The id of this device cannot be stored (") == 1
    ids = {id_ for id_, _ in sessions(log)}
    assert len(ids) == 2, "no device is taken for another"
    if verb == "run":
        assert summarize_log(log)[0].events == {"device-id": 1}


def test_a_damaged_id_is_told_once(run, tmp_path: Path) -> None:
    (tmp_path / "a/edge-pipeline").mkdir(parents=True)
    (tmp_path / "a/edge-pipeline/device-id").write_bytes(b"\0" * 37)
    first, second = (run(tmp_path / "latency.db") for _ in range(2))
    assert first.stderr.count("was damaged; the file was set aside as 'device-id.damaged'") == 1
    assert "damaged" not in second.stderr
    assert len(set(sessions(tmp_path / "latency.db"))) == 1


def test_a_new_model_of_a_run_is_of_the_same_device(fake, tmp_path: Path, monkeypatch) -> None:
    """Also where the id of the run could not be stored."""
    from edge_apps.camera import run as run_module
    from edge_apps.camera.inference.model import open_model
    from edge_apps.camera.run import Options, _warmed
    from edge_apps.camera.sources.parse import parse_source
    from edge_apps.runtime.identity import identify

    monkeypatch.setenv("XDG_STATE_HOME", "/proc")
    identity, source = identify("kitchen-pi"), parse_source("test-pattern")
    assert identity.fault
    monkeypatch.setattr(run_module, "identify", lambda *_: pytest.fail("asked again"))
    for number in (1, 2):
        path = fake.write_fake(tmp_path / f"{number}.fake")
        classifier = _warmed(source, open_model(path, None, None, threads=1), Options(), identity)
        assert classifier.session is not None
        assert (classifier.session.device_id, classifier.session.device_name) == (identity.id, "kitchen-pi")


def test_checking_a_configuration_stores_nothing(edge_camera, model: Path, tmp_path: Path, monkeypatch) -> None:
    """``install-service`` checks it as root, whose device-id would be another one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config = tmp_path / "camera.toml"
    config.write_text(f'model = "{model}"\nsource = "test-pattern"\ndevice-name = "kitchen-pi"\n')
    assert edge_camera("install-service", config).returncode == 0
    assert edge_camera("info").returncode == 0
    assert not (tmp_path / "state").exists()
    config.write_text(f'model = "{model}"\nsource = "test-pattern"\ndevice-name = "a\\tb"\n')
    refused = edge_camera("install-service", config)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("Error: --device-name is 'a\\tb'; it takes 1 to 64 printable characters")
