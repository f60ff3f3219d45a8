"""The gate on real files of the built-in network: nothing is faked here but the damage."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_apps.images import ImageSet
from edge_apps.runtime.manifest import MANIFEST, Bundle, load_bundle
from pipeline import targets
from pipeline.accuracy.drift import is_unlike
from pipeline.accuracy.gate import GatePolicy, judge
from pipeline.accuracy.in_bundle import evaluate_bundle
from pipeline.accuracy.operators import unlike_manifest
from pipeline.data import open_data
from pipeline.data.subset import Subset
from pipeline.errors import MissingExtra


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    """50 of the test pictures."""
    whole = open_data("digits", "test")
    return Subset(whole, range(0, len(whole), 9))


def test_real_files_equal_their_graph_and_their_manifest(demo_bundle: Bundle, digits: ImageSet) -> None:
    result = evaluate_bundle(demo_bundle.root, digits, threads=1)
    by_path = {file.path: file for file in result.files}
    for name in ("mobilenet_v2-int8.pte", "mobilenet_v2-int8.tflite"):
        found = by_path[name].drift
        assert found is not None
        assert (found.images, found.drop_points, found.agreement) == (50, 0.0, 1.0)
        assert not is_unlike(found)
    assert by_path["mobilenet_v2-fp32.tflite"].drift is None
    assert [file.unlike_manifest for file in result.files] == [None] * 6  # Core ML files are opened too
    assert result.notes == ()


def test_a_file_swapped_under_an_int8_name_is_found(demo_bundle: Bundle, digits: ImageSet, tmp_path: Path) -> None:
    """The float file in the place of the int8 one, and a manifest that was made to fit: even the hash is right."""
    root = Path(shutil.copytree(demo_bundle.root, tmp_path / "bundle"))
    name, other = "mobilenet_v2-int8.tflite", "mobilenet_v2-fp32.tflite"
    shutil.copy(root / other, root / name)
    manifest = json.loads((root / MANIFEST).read_text())
    entries = {file["path"]: file for file in manifest["files"]}
    entries[name].update({key: entries[other][key] for key in ("sha256", "bytes", "operators")})
    manifest["files"] = [file for file in manifest["files"] if file["role"] != "model" or file["path"] == name]
    (root / MANIFEST).write_text(json.dumps(manifest))
    result = judge(evaluate_bundle(root, digits, threads=1), GatePolicy(max_drop=20))
    assert result.verdict == "failed"
    assert (
        "53 of its 53 convolution and linear layers compute in float, the manifest lists 0" in result.files[0].message
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"operators": {}}, "Its operators are not those of the manifest: "),
        ({"float_layers": ("features.0",)}, "the manifest lists 1: it is not the int8 file"),
        ({"target": "onnx"}, "which is no target"),
        ({"target": "executorch"}, "Its operators cannot be counted"),
    ],
)
def test_what_the_manifest_says_of_a_file(demo_bundle: Bundle, changes: dict[str, Any], words: str | None) -> None:
    bundle = load_bundle(demo_bundle.root)
    listed = next(file for file in bundle.models() if file.path == "mobilenet_v2-int8.tflite")
    said = unlike_manifest(bundle, msgspec.structs.replace(listed, **changes))
    assert said is None if words is None else words in str(said)


def test_what_cannot_be_opened_is_not_counted(demo_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = demo_bundle.models()[0]
    target = targets.targets()[str(listed.target)]
    monkeypatch.setattr(type(target), "missing", lambda _self: "its library not installed: pip install it")
    with pytest.raises(MissingExtra, match="are not counted: its library not installed"):
        unlike_manifest(demo_bundle, listed)
