"""Bundles: the reference, the calibration set kept apart, and what is recorded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_apps.files import write_whole
from edge_apps.runtime.content import sha256_of
from edge_apps.runtime.manifest import MANIFEST, load_bundle
from edge_apps.runtime.preprocess import Preprocess
from pipeline import targets
from pipeline.bundles import write as bundle_writer
from pipeline.bundles.cross_references import check_evaluation
from pipeline.errors import BadCalibration, BadInput, BadManifest, ChangedFile
from pipeline.evaluation import bundle as of_bundle
from pipeline.evaluation.bundle import EVALUATION, evaluate_bundle, record
from pipeline.evaluation.operators import unlike_manifest
from pipeline.evaluation.results import EvaluationResult
from pipeline.gating.judge import GatePolicy, judge


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
    listed = next(f for f in manifest["files"] if f["role"] == "calibration-set")
    listed.update(sha256=sha256_of(path), bytes=2)
    (root / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BadManifest, match=r"calibration-set\.json"):
        evaluate_bundle(root, laboratory.images, threads=1)


def test_a_bundle_without_models(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    with pytest.raises(BadManifest, match="lists no model"):
        evaluate_bundle(make_bundle({}), laboratory.images, threads=1)


class TestAgainstAnotherBundle:
    """Each file with that of the same kind in the last release."""

    @pytest.fixture
    def last(self, laboratory: Any, make_bundle: Callable[..., Path]) -> Path:
        """It lost two pictures."""
        return make_bundle({"a.fake": laboratory.answers(2)}, name="last")

    def test_the_other_file_is_the_reference(
        self, laboratory: Any, make_bundle: Callable[..., Path], last: Path, opened: list[Any]
    ) -> None:
        root = make_bundle({"renamed.fake": laboratory.answers(5)})
        result = evaluate_bundle(root, laboratory.images, against=last, threads=1)
        assert (result.reference, result.against) == (None, str(last))
        comparison = result.files[0].comparison
        assert comparison is not None
        right = len(laboratory.right)
        assert (comparison.both, comparison.lost, comparison.gained) == (right - 5, 3, 0)
        assert comparison.agreement == 117 / 120
        assert all(runner.closed for runner in opened)

    def test_another_preprocessing_may_be_new(
        self, laboratory: Any, make_bundle: Callable[..., Path], last: Path
    ) -> None:
        """Both files judge the same pictures, each prepared in its own way."""
        other = {"preprocess": Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5))}
        root = make_bundle({"a.fake": laboratory.answers(2)}, **{"a.fake": other})
        result = evaluate_bundle(root, laboratory.images, against=last, threads=1)
        assert result.files[0].comparison is not None
        assert result.files[0].comparison.agreement == 1.0

    def test_itself_is_no_reference(self, laboratory: Any, last: Path) -> None:
        with pytest.raises(BadInput, match="is the bundle itself"):
            evaluate_bundle(last, laboratory.images, against=last / ".." / "last")

    def test_a_kind_that_it_has_not(self, laboratory: Any, make_bundle: Callable[..., Path], last: Path) -> None:
        root = make_bundle(
            {"a.fake": laboratory.answers(), "b.fake": laboratory.answers()}, targets={"b.fake": "executorch"}
        )
        with pytest.raises(BadInput, match=r"has no executorch fp32 to compare with; it has tflite fp32\."):
            evaluate_bundle(root, laboratory.images, against=last)
        with_more = evaluate_bundle(last, laboratory.images, against=root, threads=1)
        assert with_more.notes == (f"'{root}' also has executorch fp32, which '{last}' has not.",)

    def test_other_classes(self, laboratory: Any, make_bundle: Callable[..., Path], last: Path) -> None:
        root = make_bundle({"a.fake": laboratory.answers()})
        manifest = json.loads((last / MANIFEST).read_text())
        manifest["labels"][5] = "zebra"
        (last / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(BadInput, match="has other classes"):
            evaluate_bundle(root, laboratory.images, against=last)

    def test_the_other_may_have_its_labels_in_another_order(
        self, laboratory: Any, make_bundle: Callable[..., Path]
    ) -> None:
        order = (5, 0, 3, 1, 2, 4)
        labels = tuple(laboratory.images.classes[index] for index in order)
        turned = make_bundle(
            {"a.fake": laboratory.answers(2)[:, order]}, name="turned", **{"a.fake": {"labels": labels}}
        )
        manifest = json.loads((turned / MANIFEST).read_text())
        (turned / MANIFEST).write_text(json.dumps(manifest | {"labels": labels}))
        root = make_bundle({"a.fake": laboratory.answers(2)})
        result = evaluate_bundle(root, laboratory.images, against=turned, threads=1)
        assert result.files[0].comparison is not None
        assert result.files[0].comparison.agreement == 1.0

    def test_its_calibration_images_are_no_test(
        self, laboratory: Any, make_bundle: Callable[..., Path], make_images: Any
    ) -> None:
        root = make_bundle({"a.fake": laboratory.answers()}, calibrated=make_images(2, 6, seed=3))
        other = make_bundle({"a.fake": laboratory.answers()}, calibrated=laboratory.images, name="last")
        with pytest.raises(BadCalibration, match="12 of 120 evaluation images"):
            evaluate_bundle(root, laboratory.images, against=other)

    @pytest.mark.parametrize("changed", ["a.fake", "manifest.json"])
    def test_a_changed_or_foreign_bundle(
        self, laboratory: Any, make_bundle: Callable[..., Path], last: Path, changed: str
    ) -> None:
        root = make_bundle({"a.fake": laboratory.answers()})
        (last / changed).write_text("{}")
        with pytest.raises(BadInput):
            evaluate_bundle(root, laboratory.images, against=last)

    def test_a_counterpart_that_cannot_run(self, laboratory: Any, make_bundle: Callable[..., Path]) -> None:
        root = make_bundle({"a.fake": laboratory.answers()})
        last = make_bundle({"a.fake": laboratory.answers()}, name="last", **{"a.fake": {"open": "not here"}})
        file = evaluate_bundle(root, laboratory.images, against=last, threads=1).files[0]
        assert (file.status, file.comparison) == ("not run", None)
        assert str(file.reason).startswith(f"Not compared, because '{last / 'a.fake'}' is not run:")

    @pytest.mark.parametrize("broken", [{"run": "out of arena"}, {"answers": {}}])
    def test_a_counterpart_that_answers_nothing(
        self, laboratory: Any, make_bundle: Callable[..., Path], broken: dict[str, Any]
    ) -> None:
        root = make_bundle({"a.fake": laboratory.answers()})
        last = make_bundle({"a.fake": laboratory.answers()}, name="last", **{"a.fake": broken})
        with pytest.raises(BadInput, match="cannot be compared with"):
            evaluate_bundle(root, laboratory.images, against=last, threads=1)

    def test_a_counterpart_that_answers_nan(self, laboratory: Any, make_bundle: Callable[..., Path]) -> None:
        root = make_bundle({"a.fake": laboratory.answers()})
        last = make_bundle({"a.fake": laboratory.answers() * np.nan}, name="last")
        with pytest.raises(BadInput, match="NaN or infinite logits for 120 of 120"):
            evaluate_bundle(root, laboratory.images, against=last, threads=1)


def test_a_file_that_is_not_what_is_listed(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    root = make_bundle(
        {"a.fake": laboratory.answers(), "b.fake": laboratory.answers()}, **{"b.fake": {"operators": {}}}
    )
    a, b = evaluate_bundle(root, laboratory.images, threads=1).files
    assert a.unlike_manifest is None
    assert b.unlike_manifest == (
        "Its operators are not those of the manifest: conv ×0, not ×4, linear ×0, not ×1. Export it again."
    )


@pytest.mark.parametrize(
    ("layers", "listed", "fine"),
    [
        ({"integer": 5, "float": 0}, (), True),
        ({"integer": 4, "float": 1}, ("head",), True),
        ({"integer": 4, "float": 1}, (), False),
        ({"integer": 5, "float": 0}, ("head",), False),
        ({"integer": 0, "float": 5}, ("a", "b", "c", "d", "head"), False),
    ],
)
def test_an_int8_file_computes_in_integers_but_for_what_is_listed(
    laboratory: Any, make_bundle: Callable[..., Path], layers: dict[str, int], listed: tuple[str, ...], fine: bool
) -> None:
    root = make_bundle(
        {"a.fake": laboratory.answers()},
        listed={"precision": "int8", "float_layers": listed},
        **{"a.fake": layers},
    )
    bundle = load_bundle(root)
    fault = unlike_manifest(bundle, bundle.models()[0])
    assert (fault is None) == fine
    assert fine or "compute in float, the manifest lists" in str(fault)


def test_int8_files_without_what_made_them_are_refused(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    """Without the list of pictures that calibrated them nobody knows whether these did."""
    int8: dict[str, Any] = {"listed": {"precision": "int8"}, "a.fake": {"precision": "int8"}}
    root = make_bundle({"a.fake": laboratory.answers()}, **int8)
    with pytest.raises(BadManifest, match="has int8 files and does not list their ranges"):
        evaluate_bundle(root, laboratory.images, threads=1)


@pytest.mark.parametrize(
    ("says", "fault"),
    [
        ({"target": "executorch"}, "It says that it is executorch fp32; the manifest lists tflite fp32. "),
        ({"precision": "fp16"}, "It says that it is tflite fp16; the manifest lists tflite fp32. "),
        ({"made_of": "1" * 64}, "It was made of another checkpoint than the manifest says. "),
    ],
)
def test_a_file_that_says_that_it_is_another(
    laboratory: Any, make_bundle: Callable[..., Path], says: dict[str, str], fault: str
) -> None:
    root = make_bundle({"a.fake": laboratory.answers()}, **{"a.fake": says})
    (result,) = evaluate_bundle(root, laboratory.images, threads=1).files
    assert result.unlike_manifest == f"{fault}Export it again."
    assert judge(evaluate_bundle(root, laboratory.images, threads=1), GatePolicy(max_drop=20)).verdict == "failed"


def test_a_reference_that_made_no_file_is_refused(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    """Against a worse network every file would pass."""
    root = make_bundle({"a.fake": laboratory.answers()})
    manifest = json.loads((root / MANIFEST).read_text())
    manifest["provenance"]["checkpoint_sha256"] = "1" * 64
    (root / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BadManifest, match=r"was made of another checkpoint than the one it holds \(111111111111…"):
        evaluate_bundle(root, laboratory.images, threads=1)


def test_a_file_whose_operators_nobody_counted_is_not_passed(
    laboratory: Any, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_bundle({"a.fake": laboratory.answers()})
    target = targets.targets()["tflite"]
    monkeypatch.setattr(type(target), "missing", lambda _self: "its library is not installed: pip install it")
    evaluation = evaluate_bundle(root, laboratory.images, threads=1)
    (judged,) = judge(evaluation, GatePolicy(max_drop=20)).files
    assert judged.verdict == "undecided"
    assert judged.notes == ("The operators of 'a.fake' are not counted: its library is not installed: pip install it.",)
    assert judge(evaluation, GatePolicy(max_drop=20, class_drop=None)).files[0].notes == judged.notes


def test_the_same_file_in_both_releases_is_named(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    files = {"a.fake": laboratory.answers()}
    root, last = make_bundle(files), make_bundle(files, name="last")
    notes = evaluate_bundle(root, laboratory.images, against=last, threads=1).notes
    assert f"The same file, byte for byte, as in '{last}': a.fake." in notes


def test_recorded_listed_and_replaced(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    root = make_bundle({"a.fake": laboratory.answers(1)})
    manifest = json.loads((root / MANIFEST).read_text())
    manifest["of_a_newer_version"] = {"kept": True}
    (root / MANIFEST).write_text(json.dumps(manifest))
    first = evaluate_bundle(root, laboratory.images, threads=1)
    for result in (first, msgspec.structs.replace(first, data="again")):
        record(root, result)
        bundle = load_bundle(root)
        content = bundle.read(bundle.file("evaluation"))
        assert msgspec.json.decode(content.data, type=EvaluationResult) == result
        assert [file.role for file in bundle.manifest.files] == ["checkpoint", "model", "evaluation"]
    assert json.loads((root / MANIFEST).read_text())["of_a_newer_version"] == {"kept": True}
    assert sorted(path.name for path in root.iterdir()) == ["a.fake", EVALUATION, "float", MANIFEST]


def test_a_recorded_evaluation_of_something_else(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    """It is refused, and evaluating again replaces it."""
    root = make_bundle({"a.fake": laboratory.answers(1)})
    result = evaluate_bundle(root, laboratory.images, threads=1)
    assert result.reference is not None
    check_evaluation(load_bundle(root))
    others = [
        msgspec.structs.replace(result, reference=msgspec.structs.replace(result.reference, sha256="00")),
        msgspec.structs.replace(result, files=(msgspec.structs.replace(result.files[0], sha256="00"),)),
        msgspec.structs.replace(result, files=(msgspec.structs.replace(result.files[0], path="b.fake"),)),
    ]
    for other, name in zip(others, ("checkpoint", "a.fake", "b.fake"), strict=True):
        record(root, other)
        with pytest.raises(BadManifest, match=f"lists an evaluation of another '{name}'. Evaluate again."):
            check_evaluation(load_bundle(root))
        record(root, evaluate_bundle(root, laboratory.images, threads=1))
        check_evaluation(load_bundle(root))


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

    for module in (of_bundle, bundle_writer):
        monkeypatch.setattr(module, "write_whole", write_or_die)
    with pytest.raises(KeyboardInterrupt):
        record(root, msgspec.structs.replace(result, data="again"))
    bundle = load_bundle(root)
    for file in bundle.manifest.files:
        bundle.read(file)


def test_a_bundle_that_cannot_be_written_stays_as_it_is(laboratory: Any, make_bundle: Callable[..., Path]) -> None:
    root = make_bundle({"a.fake": laboratory.answers()})
    (root / EVALUATION).mkdir()  # a folder cannot be replaced by a file, not even by root
    (root / EVALUATION / "x").touch()
    before = (root / MANIFEST).read_bytes()
    with pytest.raises(BadInput, match="Cannot write"):
        record(root, evaluate_bundle(root, laboratory.images, threads=1))
    assert (root / MANIFEST).read_bytes() == before
