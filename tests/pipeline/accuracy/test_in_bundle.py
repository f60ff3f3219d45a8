"""Bundles: the reference, the calibration set kept apart, and what is recorded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_apps.files import write_whole
from edge_apps.runtime.manifest import MANIFEST, load_bundle, sha256_of
from pipeline.accuracy import in_bundle
from pipeline.accuracy.in_bundle import EVALUATION, evaluate_bundle, record
from pipeline.accuracy.results import EvaluationResult
from pipeline.errors import BadCalibration, BadInput, BadManifest, ChangedFile


def test_every_model_against_the_bundles_own_checkpoint(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    root = make_bundle(
        {"a.fake": laboratory.answers(2), "b.fake": laboratory.answers()},
        targets={"a.fake": "executorch", "b.fake": "coreml"},
        **{"b.fake": {"open": "not here"}},
    )
    result = evaluate_bundle(root, laboratory.images, threads=1)
    assert result.reference is not None
    assert result.reference.top1 == len(laboratory.right) / 120
    assert result.reference.path == "float/checkpoint.safetensors"
    a, b = result.files
    assert a.comparison is not None
    assert (a.path, a.target, a.comparison.lost) == ("a.fake", "executorch", 2)
    assert (b.path, b.target, b.precision, b.status) == ("b.fake", "coreml", "fp32", "not run")
    assert result.notes == ()


@pytest.mark.parametrize("changed", ["a.fake", "float/checkpoint.safetensors", "calibration-set.json"])
def test_a_changed_file_is_refused(
    laboratory: Any, make_bundle: Callable[..., Path], make_images: Any, opened: list[Any], changed: str
) -> None:
    root = make_bundle({"a.fake": laboratory.answers()}, calibrated=make_images(2, 6, seed=3))
    with (root / changed).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(ChangedFile, match="changed after export"):
        evaluate_bundle(root, laboratory.images, threads=1)
    assert opened == []


def test_images_that_calibrated_are_refused(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    root = make_bundle({"a.fake": laboratory.answers()}, calibrated=laboratory.images)
    with pytest.raises(BadCalibration, match="12 of 120 evaluation images"):
        evaluate_bundle(root, laboratory.images, threads=1)


def test_other_images_of_the_same_names_are_not(
    laboratory: Any, make_bundle: Callable[..., Path], make_images: Any
) -> None:
    root = make_bundle({"a.fake": laboratory.answers()}, calibrated=make_images(20, 6, seed=1))
    assert evaluate_bundle(root, laboratory.images, threads=1).files[0].status == "run"


def test_a_calibration_set_that_cannot_be_read(
    laboratory: Any, make_bundle: Callable[..., Path], make_images: Any
) -> None:
    root = make_bundle({"a.fake": laboratory.answers()}, calibrated=make_images(2, 6, seed=3))
    path = root / "calibration-set.json"
    path.write_text("{}")
    manifest = json.loads((root / MANIFEST).read_text())
    next(f for f in manifest["files"] if f["role"] == "calibration-set")["sha256"] = sha256_of(path)
    (root / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BadManifest, match=r"calibration-set\.json"):
        evaluate_bundle(root, laboratory.images, threads=1)


def test_a_bundle_without_models(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    with pytest.raises(BadManifest, match="lists no model"):
        evaluate_bundle(make_bundle({}), laboratory.images, threads=1)


def test_recorded_listed_and_replaced(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    root = make_bundle({"a.fake": laboratory.answers(1)})
    manifest = json.loads((root / MANIFEST).read_text())
    manifest["of_a_newer_version"] = {"kept": True}
    (root / MANIFEST).write_text(json.dumps(manifest))
    first = evaluate_bundle(root, laboratory.images, threads=1)
    for result in (first, msgspec.structs.replace(first, data="again")):
        record(root, result)
        bundle = load_bundle(root)
        path = bundle.verified(bundle.file("evaluation"))
        assert msgspec.json.decode(path.read_bytes(), type=EvaluationResult) == result
        assert [file.role for file in bundle.manifest.files] == ["checkpoint", "model", "evaluation"]
    assert json.loads((root / MANIFEST).read_text())["of_a_newer_version"] == {"kept": True}
    assert sorted(path.name for path in root.iterdir()) == ["a.fake", EVALUATION, "float", MANIFEST]


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_killed_while_recording(
    laboratory: Any, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """After any number of writes, everything that the manifest lists is as listed."""
    root = make_bundle({"a.fake": laboratory.answers(1)})
    result = evaluate_bundle(root, laboratory.images, threads=1)
    record(root, result)
    left = [None] * writes

    def write_or_die(path: Path, data: bytes) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        write_whole(path, data)

    monkeypatch.setattr(in_bundle, "write_whole", write_or_die)
    with pytest.raises(KeyboardInterrupt):
        record(root, msgspec.structs.replace(result, data="again"))
    bundle = load_bundle(root)
    for file in bundle.manifest.files:
        bundle.verified(file)


def test_a_bundle_that_cannot_be_written_stays_as_it_is(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    root = make_bundle({"a.fake": laboratory.answers()})
    (root / EVALUATION).mkdir()  # a folder cannot be replaced by a file, not even by root
    (root / EVALUATION / "x").touch()
    before = (root / MANIFEST).read_bytes()
    with pytest.raises(BadInput, match="Cannot write"):
        record(root, evaluate_bundle(root, laboratory.images, threads=1))
    assert (root / MANIFEST).read_bytes() == before
