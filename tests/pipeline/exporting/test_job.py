"""The main job on a small network: what is asked of it, and what exporters and runtimes can do to it."""

from __future__ import annotations

import importlib.metadata
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from recorder import Recorder
from torch import nn

from calibration.recipe import load_recipe
from edge_apps.chatter import hushed
from edge_apps.progress import shown_by
from edge_apps.runtime.content import Content, sha256_of
from edge_apps.runtime.manifest import Bundle, BundleFile
from pipeline import targets
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.load import load
from pipeline.errors import BadCalibration, BadRecipe, LoweringFailed, Mismatch, MissingExtra
from pipeline.exporting.job import ExportJob
from pipeline.exporting.write import build
from pipeline.graphs.front_ends import ImageInput
from pipeline.quantization.calibrate import calibrate, draw, load_calibration
from pipeline.quantization.captured import capture


def file_of(bundle: Bundle, target: str, precision: str) -> BundleFile:
    (found,) = [file for file in bundle.models() if (file.target, file.precision) == (target, precision)]
    return found


def left_in(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))


def test_ranges_are_used_again(job: ExportJob) -> None:
    """By another export of other pictures: the same scales, and the same file to the byte."""
    first = build(job)
    calibration = load_calibration(first.read(first.file("ranges")).path)
    second = build(replace(job, quantization=calibration, out=job.out.with_name("second")))
    files = [file_of(bundle, "tflite", "int8") for bundle in (first, second)]
    assert files[0].sha256 == files[1].sha256
    assert (second.root / "ranges.json").read_bytes() == (first.root / "ranges.json").read_bytes()
    assert load_recipe(second.root / "recipe.toml") == job.recipe
    assert second.file("calibration-set").sha256 == first.file("calibration-set").sha256


def test_the_manifest_names_the_observer_of_every_tensor(job: ExportJob, fake_target: Any, fake_runtime: Any) -> None:
    fake_runtime()
    recipe = msgspec.structs.replace(job.recipe, observers={"classifier.*": "entropy"})
    files = {precision: [(fake_target(), precision)] for precision in ("int8", "fp32")}
    bundle = build(replace(job, files=files["int8"], quantization=recipe))  # type: ignore[arg-type]
    ranges = load_calibration(bundle.read(bundle.file("ranges")).path).ranges
    assert bundle.manifest.observers == ranges.observers
    assert bundle.manifest.observers.keys() == ranges.values.keys()
    assert set(bundle.manifest.observers.values()) == {"minmax", "entropy", "fixed"}
    floating = build(replace(job, files=files["fp32"], out=job.out.with_name("floating")))  # type: ignore[arg-type]
    assert floating.manifest.observers == {}


def test_ranges_of_other_weights_are_refused(job: ExportJob, tmp_path: Path) -> None:
    captured = capture(job.checkpoint, job.images.image(0))
    calibration = calibrate(captured, draw(captured, job.images, job.recipe), job.recipe)
    other = replace(job.checkpoint, sha256="1" * 64)
    with pytest.raises(BadCalibration, match=r"belong to checkpoint .* not to 111111111111…"):
        build(replace(job, checkpoint=other, quantization=calibration))
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("layer", ["features.0.0", "features.1.conv.1.0", "features.1.conv.2", "classifier.0"])
@pytest.mark.parametrize("target", ["executorch", "tflite", "coreml"])
def test_layers_that_stay_in_float_are_recorded(job: ExportJob, target: str, layer: str) -> None:
    """The first, the last, and those between int8 tensors."""
    recipe = msgspec.structs.replace(job.recipe, float_layers=(layer,))
    bundle = build(replace(job, files=[(targets.targets()[target], "int8")], quantization=recipe))
    file = file_of(bundle, target, "int8")
    assert file.float_layers == (layer,)
    if file.comparison.status == "run":
        assert (file.comparison.word, file.comparison.judged_on) == ("good", "held-out")
        assert file.comparison.sqnr_graph_db is not None
        assert file.comparison.sqnr_graph_db > 60
        assert file.delegated.partitions == 1
    assert load_recipe(bundle.root / "recipe.toml") == recipe
    with hushed():
        census = targets.targets()[target].census(Content.read(bundle.root / file.path))
    assert (census.integer_layers, census.float_layers) == (4, 1)


# --- what an exporter or a runtime can do -----------------------------------------------------------------------------


def right(checkpoint: Checkpoint) -> Callable[[np.ndarray], np.ndarray]:
    """Answers of the float network."""
    front = ImageInput(checkpoint.network(), checkpoint.preprocess).eval()

    def answer(batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return front(torch.from_numpy(batch).permute(0, 3, 1, 2).float()).numpy()

    return answer


def test_steps_are_announced(job: ExportJob, fake_target: Any, fake_runtime: Callable[..., None]) -> None:
    fake_runtime(right(job.checkpoint))
    for precision, second in (("fp32", "Preparing"), ("int8", "Calibrating")):
        recorder = Recorder()
        out = job.out.with_name(precision)
        one = replace(job, files=[(fake_target(), precision)], out=out, stop_on_mismatch=False)  # type: ignore[list-item]
        with shown_by(recorder):
            build(one)
        assert recorder.begun == ["Capturing the network", second, f"fake {precision}"]
        assert len(recorder.begun) == one.steps()


def test_a_state_dict_of_others_is_kept_as_a_file_that_says_what_it_is(
    job: ExportJob, fake_target: Any, small_network: nn.Module, fake_runtime: Callable[..., None], tmp_path: Path
) -> None:
    fake_runtime(right(job.checkpoint))
    path = tmp_path / "theirs.pt"
    torch.save(small_network.state_dict(), path)
    theirs = load(path, model="small", labels=job.checkpoint.labels, preprocess=job.checkpoint.preprocess)
    assert not theirs.describes_itself
    job = replace(job, files=[(fake_target(), "fp32")])
    bundle = build(replace(job, checkpoint=theirs))
    assert bundle.manifest.provenance.checkpoint_sha256 == sha256_of(path)
    kept = load(bundle.read(bundle.file("checkpoint")).path)
    assert kept.path.name == "checkpoint.safetensors"
    assert kept.describes_itself
    assert (kept.spec, kept.options, kept.labels) == (theirs.spec, theirs.options, theirs.labels)
    assert kept.preprocess == theirs.preprocess
    assert kept.sha256 == sha256_of(path)  # so that nobody takes the files for those of another checkpoint
    assert all(torch.equal(tensor, kept.state[name]) for name, tensor in theirs.state.items())
    again = build(replace(job, checkpoint=kept, out=job.out.with_name("again")))
    assert again.manifest.provenance == bundle.manifest.provenance
    assert again.file("checkpoint").sha256 == bundle.file("checkpoint").sha256


def test_a_checkpoint_overwritten_during_the_export(
    job: ExportJob, fake_target: Any, small_checkpoint: Path, fake_runtime: Callable[..., None], tmp_path: Path
) -> None:
    """A training that goes on writes the same file again: the bundle holds what was exported."""
    fake_runtime(right(job.checkpoint))
    mine = Path(shutil.copy(small_checkpoint, tmp_path / "mine.safetensors"))
    loaded = load(mine)
    mine.write_bytes(b"the next epoch")
    bundle = build(replace(job, checkpoint=loaded, files=[(fake_target(), "fp32")]))
    assert (bundle.root / "float" / "checkpoint.safetensors").read_bytes() == small_checkpoint.read_bytes()


def test_a_comparison_by_hand(job: ExportJob, fake_target: Any, fake_runtime: Callable[..., None]) -> None:
    """Logits doubled are noise as strong as the signal: 0 dB, and the same class."""
    answer = right(job.checkpoint)
    fake_runtime(lambda batch: 2 * answer(batch))
    bundle = build(replace(job, files=[(fake_target(), "fp32")], stop_on_mismatch=False))
    said = file_of(bundle, "fake", "fp32").comparison
    assert (said.status, said.runtime, said.judged_on) == ("run", "fake 1", "held-out")
    assert (said.images, said.enough_images) == (32, True)
    assert said.sqnr_float_db == pytest.approx(0, abs=0.01)
    assert (said.agreement_float, said.sqnr_graph_db, said.word) == (1.0, None, "bad")
    assert file_of(bundle, "fake", "fp32").operators == {"conv": 5}
    assert not (bundle.root / "ranges.json").exists()


def test_one_calibration_picture_is_enough_to_export(
    job: ExportJob, fake_target: Any, fake_runtime: Callable[..., None]
) -> None:
    fake_runtime(right(job.checkpoint))
    recipe = msgspec.structs.replace(job.recipe, images=1)
    bundle = build(replace(job, files=[(fake_target(), "int8")], quantization=recipe, stop_on_mismatch=False))
    assert file_of(bundle, "fake", "int8").comparison.enough_images is False


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_file_that_computes_no_numbers(
    job: ExportJob, fake_target: Any, fake_runtime: Callable[..., None], tmp_path: Path, value: float
) -> None:
    fake_runtime(lambda batch: np.full((len(batch), 2), value, np.float32))
    with pytest.raises(Mismatch, match=r"'small-fp32\.fake' gives logits that are NaN or infinite"):
        build(replace(job, files=[(fake_target(), "fp32")]))
    assert left_in(tmp_path) == []


def test_an_exporter_that_fails_is_quoted_in_one_line(job: ExportJob, fake_target: Any, tmp_path: Path) -> None:
    broken = fake_target(fails=ValueError("no such thing as a shape\nand a page\nof traceback"))
    with pytest.raises(LoweringFailed) as error:
        build(replace(job, files=[(broken, "fp32")]))
    assert str(error.value) == "fake fp32: the exporter failed with ValueError: no such thing as a shape."
    assert error.value.traceback_helps
    assert error.value.exit_status == 1
    assert left_in(tmp_path) == []


def test_an_interruption_while_lowering(
    job: ExportJob, fake_target: Any, fake_runtime: Callable[..., None], tmp_path: Path
) -> None:
    fake_runtime(right(job.checkpoint))
    files = [(fake_target(), "fp32"), (fake_target(fails=KeyboardInterrupt(), name="second"), "int8")]
    with pytest.raises(KeyboardInterrupt):
        build(replace(job, files=files))
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("first", [False, True])
def test_an_interruption_that_a_library_swallows(
    job: ExportJob, fake_target: Any, fake_runtime: Callable[..., None], tmp_path: Path, first: bool
) -> None:
    """Lowering goes on to its end, but neither to the next file nor to a bundle."""

    def swallow() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            recorder.step("swallowed")

    fake_runtime(right(job.checkpoint))
    recorder = Recorder()
    files = [(fake_target(), "fp32"), (fake_target(meanwhile=swallow, name="deaf"), "int8")]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), shown_by(recorder):
            build(replace(job, files=files[::-1] if first else files))
    finally:
        signal.signal(signal.SIGINT, before)
    assert recorder.begun[-2:] == ["deaf int8", "swallowed"]
    assert left_in(tmp_path) == []


def test_an_int8_file_whose_layers_stayed_in_float_is_none(job: ExportJob, fake_target: Any, tmp_path: Path) -> None:
    with pytest.raises(LoweringFailed, match=r"2 convolution and linear layers compute in float .* 0 were meant to"):
        build(replace(job, files=[(fake_target(kept_float=2), "int8")]))
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("patterns", [("*",), ("features.*", "classifier.*")])
def test_int8_without_a_layer_in_int8_is_refused_before_anything_is_made(
    job: ExportJob, fake_target: Any, fake_runtime: Callable[..., None], tmp_path: Path, patterns: tuple[str, ...]
) -> None:
    fake_runtime(right(job.checkpoint))
    recipe = msgspec.structs.replace(job.recipe, float_layers=patterns)
    recorder = Recorder()
    both = replace(job, files=[(fake_target(), "fp32"), (fake_target(), "int8")], quantization=recipe)
    with (
        pytest.raises(BadRecipe, match=r"every convolution and linear layer .* in float \(float_layers: '.*fp32"),
        shown_by(recorder),
    ):
        build(both)
    captured = capture(job.checkpoint, job.images.image(0))
    given = calibrate(captured, draw(captured, job.images, recipe), recipe)
    with pytest.raises(BadRecipe):
        build(replace(both, quantization=given))
    assert (recorder.begun, left_in(tmp_path)) == (["Capturing the network"], [])
    assert build(replace(both, files=both.files[:1])).file("model").precision == "fp32"


def test_what_is_not_installed_is_said_first(job: ExportJob, fake_target: Any, tmp_path: Path) -> None:
    recorder = Recorder()
    absent = fake_target(absent="fakelib not installed: pip install '.[export]'")
    with (
        pytest.raises(MissingExtra, match=r"'fake' cannot be exported: fakelib .*pip install '.\[export\]'"),
        shown_by(recorder),
    ):
        build(replace(job, files=[*job.files, (absent, "fp32")]))
    assert (recorder.begun, left_in(tmp_path)) == ([], [])


def test_tools_that_are_not_installed_are_not_listed(
    job: ExportJob, fake_target: Any, fake_runtime: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One target can be exported without the packages of the others."""
    fake_runtime(right(job.checkpoint))
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "coremltools":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    tools = build(replace(job, files=[(fake_target(), "fp32")])).manifest.provenance.tools
    assert "coremltools" not in tools
    assert tools["torch"] == real("torch")


def test_weights_that_blow_up_are_named_before_anything_is_lowered(job: ExportJob, tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in job.checkpoint.state.items()}
    state["classifier.0.weight"].fill_(3e38)
    with pytest.raises(BadCalibration, match="NaN or infinite during calibration"):
        build(replace(job, checkpoint=replace(job.checkpoint, state=state)))
    assert left_in(tmp_path) == []
