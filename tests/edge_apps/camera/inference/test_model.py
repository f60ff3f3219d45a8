"""Which file of a bundle is taken, and when none can be."""

import hashlib
import re
from pathlib import Path

import pytest

from edge_apps.camera.inference.model import MOST_THREADS, open_model
from edge_apps.errors import BadInput, ChangedFile, MissingExtra, NotRunHere

FP32, INT8 = {"precision": "fp32"}, {"precision": "int8"}


def name_of(opened) -> str:
    return opened.runner.path.name


def files(*extra: dict) -> list[dict]:
    """The four files of an ordinary bundle, fp32 first as an export writes them; ``extra`` changes one each."""
    four = [{"target": t, **p} for t in ("executorch", "tflite") for p in (FP32, INT8)]
    return [{**file, **change} for file, change in zip(four, [*extra, {}, {}, {}, {}], strict=False)]


def test_without_a_choice_an_int8_file_is_taken(make_bundle) -> None:
    opened = open_model(make_bundle(files()), None, None, 1)
    assert name_of(opened) == "3-tflite-int8.fake"
    assert opened.passed_over == ()
    assert opened.load_ms > 0


def test_the_hash_is_of_the_file_that_was_opened(make_bundle) -> None:
    bundle = make_bundle(files())
    opened = open_model(bundle, None, None, 1)
    file = bundle / "3-tflite-int8.fake"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(b"another")  # while the first one runs
    assert opened.sha256 == before


def test_an_int8_file_that_cannot_run_here_is_passed_over_by_name(make_bundle) -> None:
    opened = open_model(make_bundle(files({}, {}, {}, {"refuses": "missing"})), None, None, 1)
    assert name_of(opened) == "1-executorch-int8.fake"
    (reason,) = opened.passed_over
    assert "3-tflite-int8.fake" in reason
    assert "pip install fake" in reason


def test_fp32_is_taken_where_no_int8_file_runs(make_bundle) -> None:
    bundle = make_bundle(files({}, {"refuses": "missing"}, {}, {"refuses": "not-run"}))
    opened = open_model(bundle, None, None, 1)
    assert name_of(opened) == "2-tflite-fp32.fake"
    assert len(opened.passed_over) == 2


@pytest.mark.parametrize(
    ("target", "precision", "taken"),
    [
        ("tflite", None, "3-tflite-int8.fake"),
        ("tflite", "fp32", "2-tflite-fp32.fake"),
        (None, "fp32", "2-tflite-fp32.fake"),
        ("executorch", None, "1-executorch-int8.fake"),
        ("fake", None, "3-tflite-int8.fake"),  # by suffix
    ],
)
def test_the_choice_is_honoured(make_bundle, target, precision, taken) -> None:
    assert name_of(open_model(make_bundle(files()), target, precision, 1)) == taken


def test_a_chosen_file_is_not_replaced_by_another(make_bundle) -> None:
    bundle = make_bundle(files({}, {}, {}, {"refuses": "not-run"}))
    with pytest.raises(NotRunHere, match="does not run on this machine"):
        open_model(bundle, "tflite", "int8", 1)


def test_a_choice_that_the_bundle_does_not_have_is_refused_with_what_it_has(make_bundle) -> None:
    with pytest.raises(BadInput, match=r"no file for 'coreml int8'. It has: executorch fp32, executorch int8, tflite"):
        open_model(make_bundle(files()), "coreml", "int8", 1)


def test_where_nothing_runs_every_reason_is_given(make_bundle) -> None:
    refuse = {"refuses": "not-run"}
    with pytest.raises(NotRunHere, match="None of the 4 files") as error:
        open_model(make_bundle(files(refuse, refuse, refuse, refuse)), None, None, 1)
    assert str(error.value).count("does not run on this machine") == 4
    missing = {"refuses": "missing"}
    with pytest.raises(MissingExtra, match="pip install fake"):
        open_model(make_bundle(files(refuse, missing, refuse, missing)), None, None, 1)


def test_a_changed_file_is_not_run_and_not_passed_over(make_bundle) -> None:
    bundle = make_bundle(files())
    changed = bundle / "3-tflite-int8.fake"
    changed.write_text(changed.read_text() + " ")
    with pytest.raises(ChangedFile, match="was changed after export"):
        open_model(bundle, None, None, 1)
    with pytest.raises(ChangedFile, match="was changed after export"):
        open_model(changed, None, None, 1)
    assert name_of(open_model(bundle, "executorch", None, 1)) == "1-executorch-int8.fake"


def test_a_bundle_without_a_model_is_refused(make_bundle) -> None:
    with pytest.raises(BadInput, match="no model at all"):
        open_model(make_bundle_empty(make_bundle), None, None, 1)


def make_bundle_empty(make_bundle) -> Path:
    bundle = make_bundle(files())
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(re.sub(r'"files": \[.*\]', '"files": []', text))
    return bundle


def test_a_single_file_must_be_what_is_asked_for(model: Path) -> None:
    assert name_of(open_model(model, "tflite", "int8", 1)) == model.name
    assert name_of(open_model(model, "fake", None, 1)) == model.name
    for target, precision in (("coreml", None), (None, "fp32")):
        with pytest.raises(BadInput, match="is tflite int8, not"):
            open_model(model, target, precision, 1)


def test_threads_default_to_few_and_are_passed_on(model: Path) -> None:
    assert 1 <= open_model(model, None, None, None).runner.threads <= MOST_THREADS
    assert open_model(model, None, None, 3).runner.threads == 3


def test_a_runtime_with_another_thread_count_does_not_pass_in_silence(fake, tmp_path: Path) -> None:
    stubborn = fake.write_fake(tmp_path / "m.fake", threads=8)
    assert open_model(stubborn, None, None, None).runner.threads == 8
    with pytest.raises(BadInput, match="runs on 8 threads, not 2: leave `threads` out"):
        open_model(stubborn, None, None, 2)


def test_paths_that_are_no_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"x")
    for path, says in (
        (tmp_path / "nothing", "No such bundle or file"),
        (tmp_path / "nothing.tflite", "No such bundle or file"),
        (tmp_path / "x.onnx", "no runtime for '.onnx'"),
        (tmp_path, "is not a bundle: it has no manifest.json"),
    ):
        with pytest.raises(BadInput) as error:
            open_model(path, None, None, 1)
        assert says in str(error.value)
