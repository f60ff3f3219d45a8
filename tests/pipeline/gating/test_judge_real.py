"""The gate on real files of the built-in network: nothing is faked here but the damage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_apps.images import ImageSet
from edge_apps.runtime.content import sha256_of, size_of
from edge_apps.runtime.manifest import MANIFEST, Bundle, load_bundle
from pipeline import targets
from pipeline.data import open_data
from pipeline.data.subset import Subset
from pipeline.errors import BadManifest, ChangedFile, MissingExtra
from pipeline.evaluation.bundle import evaluate_bundle
from pipeline.evaluation.operators import unlike_manifest
from pipeline.evaluation.parity import is_unlike
from pipeline.gating.judge import GatePolicy, judge


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
    (root / MANIFEST).write_text(json.dumps(manifest))
    result = judge(evaluate_bundle(root, digits, threads=1), GatePolicy(max_drop=20))
    assert result.verdict == "failed"
    (swapped,) = (file for file in result.files if file.path == name)
    assert "53 of its 53 convolution and linear layers compute in float, the manifest lists 0" in swapped.message


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


def edited(demo_bundle: Bundle, root: Path, edit: Callable[[Path, dict[str, Any], dict[str, Any]], None]) -> Path:
    """A copy of the bundle in which somebody changed something, and made every hash in the manifest fit."""
    shutil.copytree(demo_bundle.root, root)
    manifest = json.loads((root / MANIFEST).read_text())
    edit(root, manifest, {file["path"]: file for file in manifest["files"]})
    for file in manifest["files"]:
        file |= {"sha256": sha256_of(root / file["path"]), "bytes": size_of(root / file["path"])}
    (root / MANIFEST).write_text(json.dumps(manifest))
    return root


def listed_twice(_root: Path, _manifest: dict[str, Any], files: dict[str, Any]) -> None:
    """The fp32 file also as the int8 one."""
    files["mobilenet_v2-int8.tflite"].update({**files["mobilenet_v2-fp32.tflite"], "precision": "int8"})


def other_calibration_images(root: Path, _manifest: dict[str, Any], _files: dict[str, Any]) -> None:
    """A list of images that calibrated nothing, to be judged on those that did."""
    path = root / "calibration-set.json"
    used = json.loads(path.read_text())
    for image in used["images"]:
        image["sha256"] = "0" * 64
    path.write_text(json.dumps(used))


def other_calibration_images_and_ranges(root: Path, manifest: dict[str, Any], files: dict[str, Any]) -> None:
    other_calibration_images(root, manifest, files)
    path = root / "ranges.json"
    ranges = json.loads(path.read_text())
    ranges["calibration_set"] = json.loads((root / "calibration-set.json").read_text())
    path.write_text(json.dumps(ranges))


def other_ranges_everywhere(root: Path, manifest: dict[str, Any], files: dict[str, Any]) -> None:
    other_calibration_images_and_ranges(root, manifest, files)
    manifest["provenance"]["ranges_sha256"] = sha256_of(root / "ranges.json")
    for role, name in (("ranges", "ranges.json"), ("calibration-set", "calibration-set.json")):
        manifest["provenance"]["evidence"][role] = sha256_of(root / name)


def vanished_entry(_root: Path, manifest: dict[str, Any], files: dict[str, Any]) -> None:
    manifest["files"] = [file for file in files.values() if file["path"] != "mobilenet_v2-int8.pte"]


def vanished_everywhere(root: Path, manifest: dict[str, Any], files: dict[str, Any]) -> None:
    vanished_entry(root, manifest, files)
    manifest["exported"] = [name for name in manifest["exported"] if name != "mobilenet_v2-int8.pte"]


def other_recipe(root: Path, _manifest: dict[str, Any], _files: dict[str, Any]) -> None:
    path = root / "recipe.toml"
    path.write_text(path.read_text().replace("seed = 0", "seed = 1"))


def no_ranges(_root: Path, manifest: dict[str, Any], files: dict[str, Any]) -> None:
    manifest["files"] = [file for file in files.values() if file["role"] != "ranges"]
    manifest["provenance"]["ranges_sha256"] = None


def other_checkpoint(root: Path, manifest: dict[str, Any], _files: dict[str, Any]) -> None:
    """Other weights, which say that they were made from the file that the bundle was made of."""
    import safetensors.torch
    import torch

    path = root / "float" / "checkpoint.safetensors"
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    ((key, text),) = header["__metadata__"].items()
    said = {**json.loads(text), "made_from": manifest["provenance"]["checkpoint_sha256"]}
    state = safetensors.torch.load(data)
    weight = state["classifier.1.weight"]
    state["classifier.1.weight"] = torch.cat([weight[:2].flip(0), weight[2:]])  # two classes exchanged
    path.write_bytes(safetensors.torch.save(state, {key: json.dumps(said)}))


def other_program(root: Path, _manifest: dict[str, Any], _files: dict[str, Any]) -> None:
    from pipeline.checkpoints import pt2_archive

    path = root / "float" / "program.pt2"
    program, _ = pt2_archive.read(path.read_bytes(), "program")
    for tensor in program.state_dict.values():
        if tensor.is_floating_point():
            tensor.data.mul_(0.9)
    path.write_bytes(pt2_archive.write(program))


def other_checkpoint_everywhere(root: Path, manifest: dict[str, Any], files: dict[str, Any]) -> None:
    other_checkpoint(root, manifest, files)
    manifest["provenance"]["evidence"]["checkpoint"] = sha256_of(root / "float" / "checkpoint.safetensors")


def test_sizes_that_do_not_fit(demo_bundle: Bundle, digits: ImageSet, tmp_path: Path) -> None:
    root = Path(shutil.copytree(demo_bundle.root, tmp_path / "bundle"))
    manifest = json.loads((root / MANIFEST).read_text())
    for file in manifest["files"]:
        file["bytes"] += 1
    (root / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ChangedFile, match=r"has [\d,]+ bytes, and the manifest says [\d,]+"):
        evaluate_bundle(root, digits, threads=1)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (other_checkpoint, "what it lists as checkpoint was not exported with its files"),
        (other_program, "what it lists as float-program was not exported with its files"),
        (listed_twice, "lists the path 'mobilenet_v2-fp32.tflite' 2 times"),
        (other_calibration_images, "what it lists as calibration-set was not exported with its files"),
        (other_calibration_images_and_ranges, "the ranges that it lists are not those that its files were quantized"),
        (vanished_entry, "does not list 'mobilenet_v2-int8.pte', which was exported with the others"),
        (other_recipe, "what it lists as recipe was not exported with its files"),
        (no_ranges, "what it lists as ranges was not exported with its files"),
    ],
)
def test_a_bundle_whose_parts_do_not_fit_is_refused(
    demo_bundle: Bundle, digits: ImageSet, tmp_path: Path, edit: Any, says: str
) -> None:
    root = edited(demo_bundle, tmp_path / "bundle", edit)
    with pytest.raises(BadManifest, match=says):
        evaluate_bundle(root, digits, threads=1)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (other_checkpoint_everywhere, "It was exported with another checkpoint than the manifest says."),
        (other_ranges_everywhere, "It was quantized with other ranges than the manifest says. Export it again."),
        (vanished_everywhere, "It was exported together with 'mobilenet_v2-int8.pte', which the manifest does not"),
    ],
)
def test_what_the_files_themselves_contradict_fails_the_gate(
    demo_bundle: Bundle, digits: ImageSet, tmp_path: Path, edit: Any, says: str
) -> None:
    root = edited(demo_bundle, tmp_path / "bundle", edit)
    result = judge(evaluate_bundle(root, digits, threads=1), GatePolicy(max_drop=20, allow_not_run=("coreml",)))
    assert result.verdict == "failed"
    assert any(says in file.message for file in result.files), [file.message for file in result.files]
