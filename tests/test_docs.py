"""The documents say what the programs do."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from calibration.recipe import Recipe
from pipeline import zoo

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_cli_reference_is_what_help_says() -> None:
    """In a process of its own: commands keep the models that they find at import, and tests add some."""
    arguments = [sys.executable, str(ROOT / "docs" / "make_cli_reference.py"), "--check"]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_every_command_and_option_says_what_it_is_for() -> None:
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for line in text.splitlines():
        option = re.match(r"  (-\S.*)$", line)
        if option:
            assert re.search(r"\S\s{2,}\S", option[1]) or len(option[1]) > 25, f"no help text: {line}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link, an image's too, and the heading that it names."""
    links = re.findall(r"\]\(([^)\s:]+)\)", document.read_text("utf-8"))
    for path, heading in (link.partition("#")[::2] for link in links):
        target = document.parent / path if path else document
        assert target.exists(), f"{document.name} links to {path}"
        assert not heading or heading in _anchors(target), f"{document.name} links to {path}#{heading}"


def _anchors(document: Path) -> set[str]:
    """The headings of a document as links name them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_documented_recipe_is_the_default() -> None:
    text = (ROOT / "docs" / "recipe.md").read_text("utf-8")
    toml = text.split("```toml\n")[1].split("```")[0]
    assert msgspec.toml.decode(toml, type=Recipe) == Recipe().fitted(10_000)  # data with enough images
    documented = {line.split(" = ")[0] for line in toml.splitlines()}
    assert documented == set(Recipe.__struct_fields__)


def test_the_zoo_table_holds_what_every_network_must() -> None:
    """Every model is in it or named as missing; whole on the delegate, near enough, and int8 faster."""
    text = (ROOT / "docs" / "zoo.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    heading, _, *rows = rows
    missing = re.search(r"^Not measured here: (.*)\.$", text, re.MULTILINE)
    measured: dict[str, set[str]] = {}
    model = ""
    for row in (dict(zip(heading, cells, strict=True)) for cells in rows):
        model = row["model"] or model
        measured.setdefault(model, set()).add(row["target"])
        if row["target"] == "coreml":
            continue  # not run outside macOS
        assert float(row["fp32 dB"]) >= 60, model
        assert row["int8 dB"] == "equal" or float(row["int8 dB"]) >= 40, model
        assert (row["delegated"], row["parts"]) == ("100", "1"), model
        assert _number(row["int8 ms"]) < _number(row["fp32 ms"]), model
    named = set(missing[1].split(", ")) if missing else set()
    assert measured.keys() | named == zoo.specs().keys()
    assert not measured.keys() & named
    assert all(found == {"coreml", "executorch", "tflite"} for found in measured.values())


def _number(cell: str) -> float:
    return float(cell.replace(",", ""))


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    block = readme.split("<!-- test-command -->")[1].split("<!-- end -->")[0]
    commands = [line for line in block.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 1
    assert ".venv/bin/python -m pytest " in commands[0]
    assert "<!-- test-command -->" in (ROOT / ".ci" / "run").read_text("utf-8")
