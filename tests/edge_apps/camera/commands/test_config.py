"""The configuration file: every option, of its type, and nothing else."""

import re
from pathlib import Path
from types import ModuleType

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from edge_apps.camera.commands.config import options_in, options_of, template
from edge_apps.camera.commands.main import main

RUN = main.commands["run"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, arguments)])


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "camera.toml"
        path.write_text(text)
        return path

    return write


@pytest.mark.usefixtures("fake")
def test_a_file_says_what_the_command_line_does_not(written, model: Path, pictures: Path) -> None:
    config = written(f"model = '{model}'\nsource = 'folder:{pictures}'\nframes = 2\nquiet = true\njson = true\n")
    two = run("--config", config)
    assert two.exit_code == 0, two.output
    assert '"frames":2' in two.stdout
    one = run("--config", config, "--frames", 1)
    assert '"frames":1' in one.stdout


def test_the_template_is_a_configuration_with_every_option(fake: ModuleType, written, model: Path) -> None:
    del fake
    text = template(RUN)
    assert CliRunner().invoke(main, ["config"]).output == text
    assert msgspec.toml.decode(text.encode()) == {}, "all is commented out"
    filled = re.sub(r"^#(?=[a-z0-9-]+ = )", "", text, flags=re.MULTILINE)
    assert set(options_in(written(filled), RUN)) == {option.name for option in options_of(RUN).values()}
    assert {"config", "help"}.isdisjoint(options_of(RUN))
    assert model.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modle = 'x'", "sets 'modle', which is no option of 'run'. Did you mean 'model'?"),
        ("model = 3", "sets model to 3; it takes a text in quotes."),
        ("frames = 2.5", "sets frames to 2.5; it takes a whole number."),
        ("frames = '2'", "sets frames to a text; it takes a whole number."),
        ("frames = true", "sets frames to true; it takes a whole number."),
        ("web = {port = 8080}", "sets web to a table; it takes a text in quotes."),
        ("web = ['8080']", "sets web to a list; it takes a text in quotes."),
        ("log-max-age = 2026-01-01", "sets log-max-age to a date; it takes a text in quotes."),
        ("log-max-age = 07:32:00", "sets log-max-age to a time; it takes a text in quotes."),
        ("log-max-age = 2026-01-01T07:32:00Z", "sets log-max-age to a date with a time; it takes a text in quotes."),
        ('log = "a\\u0000b"', "sets log to a text; it holds the character NUL"),
        pytest.param("web = " + "[" * 5000 + "]" * 5000, "is nested too deeply", id="nested"),
        pytest.param("frames = " + "9" * 5000, "is no TOML: ", id="endless"),
        ("threshold = 'x'", "it takes a number."),
        ("loop = 1", "sets loop to 1; it takes true or false."),
        ("snapshot-on = 'cat'", "it takes a list of texts in quotes."),
        ("snapshot-on = [1]", "it takes a list of texts in quotes."),
        ("= 3", "is no TOML"),
        ("config = 'other.toml'", "sets 'config', which is no option"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(written, text: str, words: str) -> None:
    ended = run("--config", written(text))
    assert ended.exit_code == 2
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_what_click_checks_is_checked(written) -> None:
    ended = run("--config", written("model = 'm'\nsource = 'test-pattern'\nframes = 0"))
    assert ended.exit_code == 2
    assert "--frames" in ended.stderr


def test_a_password_in_a_file_is_not_repeated(written) -> None:
    ended = run("--config", written("threads = 'rtsp://user:secret@host'"))
    assert "secret" not in ended.output


@pytest.mark.usefixtures("fake")
def test_paths_count_from_the_folder_of_the_file(
    written, model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the program is started; what is on the command line counts from there."""
    written(
        f"model = '{model.name}'\nsource = 'folder:{pictures.name}'\nlog = 'l.db'\nsnapshot = 'kept'\n"
        "snapshot-on = ['green']\nweb = '127.0.0.1:0'\nweb-token-file = 'token'\njson = true\n"
    )
    token = tmp_path / "token"
    token.write_text("0123456789abcdef01234567")
    token.chmod(0o600)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    ended = run("--config", "../camera.toml", "--log", "here.db")
    assert ended.exit_code == 0, ended.output
    assert f'"source":"folder:{pictures}"' in ended.stdout
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert [path.name for path in elsewhere.iterdir()] == ["here.db"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("folder:pictures", "folder:THERE/pictures"),
        ("Video:a:b.mp4", "Video:THERE/a:b.mp4"),
        ("v4l2:door", "v4l2:THERE/door"),
        ("v4l2:/dev/video0", "v4l2:/dev/video0"),
        ("folder:", "folder:"),
        ("usb:0", "usb:0"),
        ("test-pattern", "test-pattern"),
        ("http://user:secret@host/a", "http://user:secret@host/a"),
        ("nonsense", "nonsense"),
        ("0", "0"),
        ("/dev/video9", "v4l2:/dev/video9"),
        ("a clip", "video:THERE/a clip"),
        ("./a clip", "video:THERE/a clip"),
        ("THERE/photo.mp4", "image:THERE/photo.mp4"),
        ("photos", "folder:THERE/photos"),
        ("~/photos", "folder:THERE/photos"),
        ("folder:~/photos", "folder:THERE/photos"),
        ("later.mp4", "THERE/later.mp4"),
        ("foldr:x", "foldr:x"),
    ],
)
def test_sources_that_name_a_path(written, tmp_path: Path, source: str, found: str, monkeypatch) -> None:
    """One that is not there yet, too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a clip").write_bytes(b"what it is, nobody knows")
    (tmp_path / "photo.mp4").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "photos").mkdir()
    said = options_in(written(f"source = '{source.replace('THERE', str(tmp_path))}'"), RUN)
    assert said == {"source_text": found.replace("THERE", str(tmp_path))}


@pytest.mark.usefixtures("fake")
def test_the_command_line_takes_back_what_the_file_says(written, model: Path, pictures: Path, tmp_path: Path) -> None:
    config = written(
        f"model = '{model}'\nsource = 'folder:{pictures}'\nframes = 2\nloop = true\njson = true\n"
        f"log = '{tmp_path / 'l.db'}'\nlog-max-size = '1M'\n"
    )
    ended = run("--without", "log", "--config", config, "--without", "loop", "--without", "--log-max-size")
    assert ended.exit_code == 0, ended.output
    assert not (tmp_path / "l.db").exists()
    refused = run("--config", config, "--without", "log")
    assert "--log-max-size needs a log" in refused.stderr, "the rest of the file is as it was"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--without", "web"], "--without web needs a configuration: add --config FILE."),
        (["--without", "wep", "--config", "FILE"], "--without names 'wep', which is no option of 'run'. Did you mean"),
    ],
)
def test_without_what(written, arguments: list[str], words: str) -> None:
    config = str(written("frames = 2"))
    ended = run(*(config if word == "FILE" else word for word in arguments))
    assert ended.exit_code == 2
    assert words in ended.stderr


def test_no_such_file(tmp_path: Path) -> None:
    ended = run("--config", tmp_path / "none.toml")
    assert ended.exit_code == 2
    assert "Cannot read the configuration" in ended.stderr


def test_every_type_of_option_is_known() -> None:
    """Another type of option would be taken for a text."""
    for name, option in options_of(RUN).items():
        if not (option.is_flag or option.multiple):
            kinds = (click.types.IntParamType, click.types.FloatParamType, click.types.StringParamType, click.Path)
            assert isinstance(option.type, (*kinds, click.Choice)), name
