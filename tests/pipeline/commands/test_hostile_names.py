"""Names in a bundle and of data that would steer a terminal, through the commands that show them."""

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge_apps.console import print_parts
from edge_apps.runtime.manifest import BundleFile, FileManifest, Provenance
from edge_apps.runtime.preprocess import Preprocess
from pipeline.bundles.write import write_manifest
from pipeline.cli import main
from pipeline.exporting.show import show_bundle

pytestmark = pytest.mark.usefixtures("opened", "fake_targets")

NAMES = ["a\x1b]0;x\x07.fake", "b\x9b31m.fake", "c\u202ederc[/b].fake"]


def steers(text: str) -> bool:
    kinds = {unicodedata.category(character) for character in text if character != "\n"}
    return bool(kinds & {"Cc", "Cf", "Zl", "Zp", "Cs"})


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def bundle(laboratory: Any, make_bundle: Any) -> Path:
    root: Path = make_bundle({name: laboratory.answers() for name in NAMES})
    return root


@pytest.fixture
def data(laboratory: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(laboratory.images.root, tmp_path / "data\x1b[2J\u202e"))


@pytest.mark.parametrize("verb", ["evaluate", "gate"])
def test_tables(bundle: Path, data: Path, verb: str) -> None:
    limit = ["--max-drop", 20] if verb == "gate" else []
    shown = run(verb, bundle, "--data", data, *limit, "--threads", 1)
    assert shown.exit_code == 0, shown.output
    assert "data�[2J�" in shown.stdout
    assert "c�derc[/b].fake" in shown.stdout
    assert not steers(shown.stdout + shown.stderr)
    document = run(verb, bundle, "--data", data, *limit, "--threads", 1, "--json")
    assert not steers(document.stdout)
    files = json.loads(document.stdout)["files"]
    assert [file["path"] for file in files] == NAMES


def test_a_bundle_is_listed(bundle: Path) -> None:
    shown = run("bundle", bundle)
    assert shown.exit_code == 0, shown.output
    assert "c�derc[/b].fake" in shown.stdout
    assert not steers(shown.stdout)
    listed = run("bundle", bundle, "--json").stdout
    assert not steers(listed)
    assert [file["path"] for file in json.loads(listed)["files"]][1:] == NAMES


def test_the_table_of_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = FileManifest(
        format=1,
        model="m\x9b2J",
        options={},
        target="",
        precision="fp32",
        labels=("a", "b"),
        preprocess=Preprocess(height=8, width=8),
        provenance=Provenance(checkpoint_sha256="00"),
    )
    root = tmp_path / "bundle\x1b[2J"
    root.mkdir()
    files = [
        BundleFile(path=name, role="model", target=target, precision="fp32", sha256="00", bytes=5)
        for name, target in zip(NAMES, ("tflite", "executorch", "coreml"), strict=False)
    ]
    print_parts(show_bundle(write_manifest(root, about, files, findings=["found \x9b31m"]), "pipeline"))
    said = capsys.readouterr().out
    assert "c�derc[/b].fake" in said
    assert "Bundle " in said
    assert not steers(said)
