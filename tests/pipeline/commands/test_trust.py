"""``--trust`` of ``pipeline gate`` and ``pipeline evaluate``, and what is stored in a signed bundle: nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.bundles.signing import new_key, sign_bundle
from pipeline.cli import main

pytestmark = pytest.mark.usefixtures("opened", "fake_targets")

pytest.importorskip("cryptography")


def run(verb: str, *arguments: Any) -> Result:
    return CliRunner().invoke(main, [verb, "--threads", "1", *map(str, arguments)])


def refused(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "release")
    return tmp_path / "release.pub"


@pytest.fixture
def signed(laboratory: Any, make_bundle: Any, key: Path) -> Callable[[str], Path]:
    """Bundles of one good file, signed: ``signed("name")``."""

    def make(name: str) -> Path:
        root: Path = make_bundle({"a.fake": laboratory.answers()}, name=name)
        sign_bundle(root, key.with_suffix(""), lambda: "")
        return root

    return make


def test_a_signed_bundle_is_gated(laboratory: Any, signed: Callable[[str], Path], key: Path) -> None:
    data = ("--data", laboratory.images.name, "--max-drop", 20, "--trust", key)
    assert run("gate", signed("b"), *data).exit_code == 0
    assert run("gate", signed("c"), *data, "--against", signed("last")).exit_code == 0


@pytest.mark.parametrize("which", ["itself", "against"])
def test_the_gate_refuses_what_is_unsigned_and_says_so_in_its_reports(
    laboratory: Any, signed: Callable[[str], Path], key: Path, tmp_path: Path, which: str
) -> None:
    root, last = signed("b"), signed("last")
    unsigned = root if which == "itself" else last
    (unsigned / "manifest.json.sig").unlink()
    reports = ("--junit", tmp_path / "gate.xml", "--markdown", tmp_path / "gate.md")
    data = ("--data", laboratory.images.name, "--max-drop", 20, "--trust", key)
    said = refused(run("gate", root, *data, "--against", last, *reports))
    assert f"'{unsigned}' is not signed" in said
    for report in ("gate.xml", "gate.md"):
        assert "is not signed" in (tmp_path / report).read_text()


def test_a_report_does_not_replace_the_key(laboratory: Any, signed: Callable[[str], Path], key: Path) -> None:
    before = key.read_bytes()
    said = refused(run("gate", signed("b"), "--data", laboratory.images.name, "--trust", key, "--junit", key))
    assert "is the key of --trust" in said
    assert key.read_bytes() == before


def test_evaluate_takes_a_signed_bundle_and_files_in_it(
    laboratory: Any, signed: Callable[[str], Path], key: Path, tmp_path: Path
) -> None:
    root = signed("b")
    data = ("--data", laboratory.images.name, "--trust", key)
    for path in (root, root / "a.fake"):
        assert run("evaluate", path, *data).exit_code == 0
    alone = tmp_path / "alone.fake"
    alone.write_bytes((root / "a.fake").read_bytes())
    assert f"'{alone}' stands alone" in refused(run("evaluate", alone, *data))
    (root / "manifest.json.sig").write_bytes(bytes(64))
    for path in (root, root / "a.fake"):
        assert "does not verify with the key" in refused(run("evaluate", path, *data))


def test_nothing_is_stored_in_a_signed_bundle(laboratory: Any, signed: Callable[[str], Path], key: Path) -> None:
    """Its signature still verifies."""
    root = signed("b")
    before = {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}
    result = run("evaluate", root, "--data", laboratory.images.name, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["files"][0]["path"] == "a.fake"
    assert result.stderr.splitlines()[-1] == (
        f"Not kept in the bundle: '{root}' is signed, and storing a result would void its signature "
        "(manifest.json.sig)."
    )
    assert {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()} == before
    assert CliRunner().invoke(main, ["bundle", str(root), "--verify", str(key)]).exit_code == 0
