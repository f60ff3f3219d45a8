"""Which characters reach a terminal, and that JSON means what it meant."""

import io
import json
import sys
import unicodedata

import msgspec
import pytest
from rich.text import Text

from edge_apps.console import Lines, echo_json, progress, results, table
from edge_apps.visible import visible, visible_json, visible_lines

HOSTILE = [
    "\x1b]0;title\x07",  # OSC: sets the window's title
    "\x9b31m",  # the same as ESC [ in one character
    "\x90payload\x9c",  # DCS … ST
    "\u202eexe.gpj",
    "\u2066hidden\u2069",
    "\u2028\u2029",
    "\x7f\x08\x0d",
    "\x85",
    "\u200b\ufeff",
    "\U000e0001\U000e0041",  # tags, which nobody sees
]

HARMLESS = [
    "cat",
    "größer, 25 °C",
    "猫\N{IDEOGRAPHIC SPACE}犬",
    "1\N{NO-BREAK SPACE}000",
    "👩\u200d💻",
    "می\u200cخواهم",
    "[/b]",
]


def steers(text: str) -> bool:
    """Whether something in it could steer a terminal; line feeds aside."""
    kinds = {unicodedata.category(character) for character in text if character not in "\n\u200c\u200d"}
    return bool(kinds & {"Cc", "Cf", "Zl", "Zp", "Cs"})


@pytest.mark.parametrize("text", HOSTILE)
def test_what_steers_is_replaced(text: str) -> None:
    assert steers(text)
    assert not steers(visible(f"a{text}b"))
    assert "�" in visible(text)
    assert visible(f"a\n{text}") == f"a�{visible(text)}"
    assert visible_lines(f"a\n{text}") == f"a\n{visible(text)}"


@pytest.mark.parametrize("text", HARMLESS)
def test_other_writing_stays(text: str) -> None:
    assert visible(text) == text
    assert visible_json(text) == text


@pytest.mark.parametrize("text", [*HOSTILE, *HARMLESS, '"quoted" \\u202e', "\n\t"])
def test_json_means_what_it_meant(text: str) -> None:
    document = {text: [text]}
    written = [
        msgspec.json.encode(document).decode(),
        json.dumps(document),
        json.dumps(document, ensure_ascii=False, indent=1),
    ]
    for one in written:
        assert json.loads(visible_json(one)) == document
        assert not steers(visible_json(one))


def test_half_a_character_of_a_file_name_is_escaped_too() -> None:
    """Python reads bytes of a name that are not UTF-8 as such halves; msgspec writes none."""
    shown = visible_json(json.dumps("a\udc80", ensure_ascii=False))
    assert shown == '"a\\udc80"'
    assert json.loads(shown) == "a\udc80"


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("make", [results, progress])
def test_no_console_is_steered(capsys, make, text: str) -> None:
    """By text with and without markup, in a table, and as a title."""
    console = make()
    console.print(text, markup=False)
    console.print(Text(text), soft_wrap=True)
    shown = table(f"title {text}")
    shown.add_column(f"head {text}")
    shown.add_row(text)
    shown.add_row(Text(text))
    console.print(shown)
    said = capsys.readouterr()
    assert not steers(said.out + said.err)
    assert (said.out + said.err).count("\n") >= 6


def test_a_name_is_not_cut_because_of_what_was_replaced(capsys) -> None:
    """Control characters take no room, and what replaces them does."""
    name = "\u202e\x9b\x1b" + "x" * 20
    shown = table()
    shown.add_column("name", overflow="fold")
    shown.add_row(name)
    results().print(shown)
    assert capsys.readouterr().out.splitlines()[1].strip() == "���" + "x" * 20


def test_a_terminal_still_gets_its_colours(monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    results().print("[red]good[/] \x1b[32mbad\x1b[0m")
    assert sys.stdout.getvalue() == "\x1b[31mgood\x1b[0m �[32mbad�[0m\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_lines_are_not_steered_and_json_lines_are_exact(capsys, text: str) -> None:
    lines = Lines()
    lines.print(f"a.png {text}")
    lines.print_json(msgspec.json.encode({"name": text}).decode())
    shown, document = capsys.readouterr().out.splitlines()
    assert not steers(shown + document)
    assert json.loads(document) == {"name": text}


def test_json_is_utf_8_in_every_locale(monkeypatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", errors="replace"))
    echo_json('{"label": "Größe"}')
    echo_json('{"label": "Größe"}'.encode())
    sys.stdout.flush()
    assert [json.loads(line) for line in raw.getvalue().splitlines()] == [{"label": "Größe"}] * 2
