"""How both programs end: the exit status, and one line that says why."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import pytest

from edge_apps.console import progress, results, typed
from edge_apps.errors import BadInput, EdgeError, MissingExtra, NotRunHere
from edge_apps.program import Program


@click.group(cls=Program)
@click.option("--debug", is_flag=True)
def program(debug: bool) -> None:
    """A program."""


@program.command()
@click.argument("what")
@click.option("--number", type=int)
def do(what: str, number: int | None) -> object:  # noqa: ARG001
    """Something."""
    ends = {
        "nothing": lambda: None,
        "verdict": lambda: 3,
        "text": lambda: "a value",
        "failed": lambda: _raise(EdgeError("It failed.")),
        "bad": lambda: _raise(BadInput("It is bad.")),
        "missing": lambda: _raise(MissingExtra("pip install it.")),
        "not run": lambda: _raise(NotRunHere("Not here.")),
        "two lines": lambda: _raise(BadInput("One\ntwo.")),
        "fault": lambda: _raise(KeyError("key")),
        "long fault": lambda: _raise(ValueError("first line\nsecond line")),
        "silent fault": lambda: _raise(MemoryError()),
        "file": lambda: Path("/no/such/file").read_text(),
        "interrupt": lambda: _raise(KeyboardInterrupt()),
        "end of file": lambda: _raise(EOFError("Ran out of input")),
        "click": lambda: _raise(click.ClickException("click says no")),
        "exit": lambda: click.get_current_context().exit(4),
    }
    return ends[what]()


def _raise(error: BaseException) -> None:
    raise error


def ended(capsys, *arguments: str) -> tuple[int, str, list[str]]:
    """Status, stdout, and the lines on stderr that say something."""
    with pytest.raises(SystemExit) as end:
        program.main(args=list(arguments), prog_name="program")
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, [line for line in said.err.splitlines() if line]


@pytest.mark.parametrize(("what", "status"), [("nothing", 0), ("verdict", 3), ("text", 0), ("exit", 4)])
def test_a_command_that_ends_in_order(capsys, what: str, status: int) -> None:
    assert ended(capsys, "do", what) == (status, "", [])


@pytest.mark.parametrize(
    ("what", "status", "line"),
    [
        ("failed", 1, "Error: It failed."),
        ("bad", 2, "Error: It is bad."),
        ("missing", 2, "Error: pip install it."),
        ("not run", 1, "Error: Not here."),
        ("two lines", 2, "Error: One two."),
        ("file", 1, "Error: No such file or directory: '/no/such/file'."),
        ("click", 1, "Error: click says no"),
        ("interrupt", 130, "Error: Interrupted."),
    ],
)
def test_what_is_foreseen_is_one_line(capsys, what: str, status: int, line: str) -> None:
    assert ended(capsys, "do", what) == (status, "", [line])


@pytest.mark.parametrize(
    ("what", "starts"),
    [
        ("fault", "Error: KeyError: 'key'. This is a fault"),
        ("long fault", "Error: ValueError: first line. This is a fault"),
        ("silent fault", "Error: MemoryError: no reason given. This is a fault"),
        ("end of file", "Error: EOFError: Ran out of input. This is a fault"),
    ],
)
def test_a_fault_is_one_line_and_status_1(capsys, what: str, starts: str) -> None:
    status, out, lines = ended(capsys, "do", what)
    assert (status, out, len(lines)) == (1, "", 1)
    assert lines[0].startswith(starts)
    assert "--debug" in lines[0]


@pytest.mark.parametrize(("what", "status"), [("fault", 1), ("bad", 2), ("end of file", 1)])
def test_debug_shows_the_traceback_and_keeps_the_status(capsys, what: str, status: int) -> None:
    for arguments in (["--debug", "do", what], ["do", "--debug", what], ["do", what, "--debug"]):
        found, out, lines = ended(capsys, *arguments)
        assert (found, out) == (status, "")
        assert any(line.startswith("Traceback") for line in lines)
        assert lines[-1].startswith("Error: ")


def test_debug_behind_two_dashes_is_a_name(capsys) -> None:
    status, _, lines = ended(capsys, "do", "--", "--debug")
    assert (status, len(lines)) == (1, 1)
    assert lines[0].startswith("Error: KeyError: '--debug'.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["undo"], "'undo'"),
        (["do"], "Missing argument 'WHAT'"),
        (["do", "x", "--number", "three"], "'three' is not a valid integer"),
        (["do", "x", "--colour"], "'--colour'"),
        (["--nothing"], "'--nothing'"),
    ],
)
def test_wrong_usage_is_status_2_and_names_the_help(capsys, arguments: list[str], says: str) -> None:
    status, out, lines = ended(capsys, *arguments)
    assert (status, out, len(lines)) == (2, "", 1)
    assert lines[0].startswith("Error: ")
    assert says in lines[0]
    assert lines[0].endswith("--help'.")


def test_no_argument_shows_the_help_not_an_error(capsys) -> None:
    status, out, lines = ended(capsys)
    assert (status, bool(out)) in {(2, False), (0, True)}, "click before 8.2 prints it as a result"
    text = out.splitlines() or lines
    assert text[0].startswith("Usage: program")
    assert not any("Error" in line for line in text)


def test_help_is_a_result(capsys) -> None:
    status, out, lines = ended(capsys, "do", "--help")
    assert (status, lines) == (0, [])
    assert "Something." in out


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    code = (
        "import click\n"
        "from edge_apps.program import Program\n"
        "@click.group(cls=Program)\n"
        "def main(): pass\n"
        "@main.command()\n"
        "@click.argument('lines', type=int)\n"
        "def talk(lines):\n"
        "    for _ in range(lines): print('x' * 100)\n"
        "main()\n"
    )
    for lines in (1, 10_000):  # less and more than a pipe and its buffer hold
        program = subprocess.Popen(
            [sys.executable, "-c", code, "talk", str(lines)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert program.stdout is not None
        program.stdout.close()
        _, said = program.communicate(timeout=30)
        assert said == b""
        assert program.returncode == 1


CALLED = """
import signal, sys, time
from pathlib import Path
import click
from edge_apps.console import results
from edge_apps.program import Program
@click.group(cls=Program)
def main(): pass
@main.command()
def say(): results().print("caf\u00e9 \u2026"); print("\u2026")
@main.command()
@click.argument("place", type=Path)
def hold(place):
    (place / "staging").touch()
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        for _ in range(3): signal.raise_signal(signal.SIGTERM)  # timeout(1) sends it twice
        (place / "staging").unlink()
main()
"""


def test_what_stdout_cannot_encode_is_replaced() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", CALLED, "say"], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"caf\xe9 ?\n?\n", b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_as_good_as_none(closed: str) -> None:
    shell = ["sh", "-c", f'"$0" -c "$1" say {closed}', sys.executable, CALLED]
    done = subprocess.run(shell, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))


@pytest.mark.parametrize("ctrl_c", [signal.SIG_IGN, signal.default_int_handler])
def test_sigterm_clears_away_and_is_status_143(tmp_path: Path, ctrl_c: Any) -> None:
    before = signal.signal(signal.SIGINT, ctrl_c)  # a program inherits that it is ignored
    try:
        program = subprocess.Popen(
            [sys.executable, "-c", CALLED, "hold", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    assert (tmp_path / "staging").exists()
    program.terminate()
    _, said = program.communicate(timeout=30)
    assert (program.returncode, said.strip()) == (143, "Error: Terminated.")
    assert not any(tmp_path.iterdir())


def test_sigterm_is_put_back_and_left_alone_where_it_is_not_ours(capsys) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        for handler in (signal.SIG_DFL, signal.SIG_IGN, lambda number, frame: None):  # noqa: ARG005
            signal.signal(signal.SIGTERM, handler)
            assert ended(capsys, "do", "nothing")[0] == 0
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_program_may_run_in_a_thread() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(SystemExit) as end:
        pool.submit(program.main, ["do", "verdict"]).result()
    assert end.value.code == 3


def test_results_and_progress_have_their_own_streams(capsys) -> None:
    results().print("a result")
    progress().print("progress")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("a result\n", "progress\n")


def test_a_pipe_is_wide(capsys) -> None:
    results().print("x" * 150)
    assert capsys.readouterr().out == "x" * 150 + "\n"


def test_programs_are_named_as_they_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pipeline", "edge-camera"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr("sys.argv", [str(tmp_path / "pipeline"), "demo"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert typed("edge-camera") == str(tmp_path / "edge-camera")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert typed("edge-camera") == "edge-camera"
    monkeypatch.setattr("sys.argv", ["-c"])
    assert typed("edge-camera") == "edge-camera"
