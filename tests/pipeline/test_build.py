"""The main job: the built-in checkpoint's real bundle, and small networks where something is asked or goes wrong."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from calibration.dataset import CalibrationSet, check_disjoint
from calibration.quantize import quantize
from calibration.ranges import load_ranges
from calibration.recipe import Recipe, load_recipe
from calibration.simulate import Simulator
from edge_apps import images as pictures_on_disk
from edge_apps.chatter import hushed
from edge_apps.runtime.manifest import METADATA_NAME, Bundle, BundleFile, FileManifest, parse_file_manifest, sha256_of
from edge_apps.runtime.preprocess import Preprocess, to_batch
from edge_apps.runtime.runner import open_runner
from pipeline import targets
from pipeline.accuracy.sqnr import sqnr_db
from pipeline.build import Job, build
from pipeline.capture import ImageInput, graph_of
from pipeline.checkpoint import Checkpoint, builtin, load
from pipeline.data import open_data
from pipeline.errors import BadCalibration, LoweringFailed, MissingExtra

MOBILENET_LAYERS = 53
RUN_HERE = ("executorch", "tflite")


def file_of(bundle: Bundle, target: str, precision: str) -> BundleFile:
    (found,) = [file for file in bundle.models() if (file.target, file.precision) == (target, precision)]
    return found


# --- the built-in checkpoint, every target, fp32 and int8 -----------------------------------------------------------


@pytest.fixture(scope="module")
def held_out() -> np.ndarray:
    """100 held-out digits, uint8 ``[100, 96, 96, 3]``; no file has seen them."""
    images = open_data("digits", "test")
    return to_batch([images.image(i) for i in range(100)], Preprocess(height=96, width=96))


@pytest.fixture(scope="module")
def floats(held_out: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(held_out).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module")
def float_logits(held_out: np.ndarray) -> np.ndarray:
    """Of the checkpoint on pictures normalised by hand: batch norms unfolded, nothing captured."""
    checkpoint = load(builtin())
    normal = (held_out / 255 - checkpoint.preprocess.mean) / checkpoint.preprocess.std
    with torch.no_grad():
        return checkpoint.network()(torch.from_numpy(normal).float().permute(0, 3, 1, 2)).numpy()


@pytest.fixture(scope="module")
def answers(demo_bundle: Bundle, held_out: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """What every file that runs here says."""
    found = {}
    for file in demo_bundle.models():
        if file.target in RUN_HERE:
            runner = open_runner(demo_bundle.verified(file), threads=2)
            found[file.target, str(file.precision)] = runner.run(held_out)
            runner.close()
    assert len(found) == 4
    return found


@pytest.mark.parametrize("target", RUN_HERE)
def test_files_are_near_the_float_network(
    answers: dict[tuple[str, str], np.ndarray], float_logits: np.ndarray, target: str
) -> None:
    assert sqnr_db(float_logits, answers[target, "fp32"]) >= 60
    assert sqnr_db(float_logits, answers[target, "int8"]) > 25


@pytest.mark.parametrize("target", RUN_HERE)
def test_what_the_manifest_says_of_that(demo_bundle: Bundle, target: str) -> None:
    for precision in ("fp32", "int8"):
        said = file_of(demo_bundle, target, precision).comparison
        assert (said["status"], said["images"], said["enough_images"]) == ("run", 64, True)
        assert said["sqnr_float_db"] >= (60 if precision == "fp32" else 25)
        if precision == "int8":
            assert said["sqnr_graph_db"] >= 40
        else:
            assert "sqnr_graph_db" not in said


def test_core_ml_is_not_run_here(demo_bundle: Bundle) -> None:
    for precision in ("fp32", "int8"):
        said = file_of(demo_bundle, "coreml", precision).comparison
        if said["status"] == "run":
            pytest.skip("this is a Mac")
        assert said["status"] == "not run"
        assert "macOS only" in said["reason"]
        assert "sqnr_float_db" not in said


def test_int8_files_of_two_runtimes_say_the_same(answers: dict[tuple[str, str], np.ndarray]) -> None:
    equal = (answers["executorch", "int8"] == answers["tflite", "int8"]).all(axis=1)
    assert equal.mean() >= 0.99


def test_int8_is_not_fp32(answers: dict[tuple[str, str], np.ndarray]) -> None:
    """Real integers: at most 256 different values, on one grid."""
    values = np.unique(answers["tflite", "int8"])
    steps = np.diff(values) / np.diff(values).min()
    assert len(values) <= 256
    assert steps == pytest.approx(steps.round(), abs=1e-2)


def test_every_scale_is_that_of_the_one_calibration(demo_bundle: Bundle) -> None:
    ranges = load_ranges(demo_bundle.verified(demo_bundle.file("ranges")))
    expected = sorted({ranges.qparams(key) for key in ranges.values})
    for name, target in targets.targets().items():
        with hushed():
            census = target.census(demo_bundle.root / file_of(demo_bundle, name, "int8").path)
        found = sorted(census.activations)
        assert [zero for _, zero in found] == [zero for _, zero in expected], name
        assert [scale for scale, _ in found] == pytest.approx([scale for scale, _ in expected], rel=1e-6), name
        assert (census.integer_layers, census.float_layers) == (MOBILENET_LAYERS, 0), name


def test_one_delegate_takes_it_all(demo_bundle: Bundle) -> None:
    for target in RUN_HERE:
        for precision in ("fp32", "int8"):
            file = file_of(demo_bundle, target, precision)
            assert file.delegated["partitions"] == 1, file.path
            assert not any("conv" in name or "linear" in name for name in file.delegated["outside"]), file.path


def test_operators_are_counted(demo_bundle: Bundle) -> None:
    layers = {
        "executorch": ("XNNConv2d", "XNNDepthwiseConv2d", "XNNFullyConnected"),
        "tflite": ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"),
        "coreml": ("conv", "linear"),
    }
    for file in demo_bundle.models():
        counted = Counter(file.operators)
        assert sum(counted[name] for name in layers[str(file.target)]) == MOBILENET_LAYERS, file.path
        assert file.float_layers == ()


def embedded(path: Path) -> FileManifest:
    """What a file says of itself, also of one that cannot be opened here."""
    if path.suffix != ".mlpackage":
        runner = open_runner(path)
        runner.close()
        return runner.manifest
    import coremltools

    text = coremltools.models.MLModel(str(path), skip_model_load=True).user_defined_metadata[METADATA_NAME]
    return parse_file_manifest(text, path)


def test_files_describe_themselves_as_the_manifest_does(demo_bundle: Bundle) -> None:
    about = demo_bundle.manifest
    ranges_sha256 = sha256_of(demo_bundle.root / "ranges.json")
    assert about.provenance.checkpoint_sha256 == sha256_of(builtin())
    assert about.provenance.ranges_sha256 == ranges_sha256
    assert about.provenance.tools["torch"] == importlib.metadata.version("torch")
    without_ranges = msgspec.structs.replace(about.provenance, ranges_sha256=None)
    for file in demo_bundle.models():
        said = embedded(demo_bundle.root / file.path)
        assert (said.target, said.precision) == (file.target, file.precision)
        assert file.path.startswith(f"{about.model}-{file.precision}.")
        assert (said.model, said.options, said.labels) == (about.model, about.options, about.labels)
        assert said.preprocess == about.preprocess
        assert said.provenance == (about.provenance if file.precision == "int8" else without_ranges)


def test_every_file_is_listed_and_is_what_is_listed(demo_bundle: Bundle) -> None:
    for file in demo_bundle.manifest.files:
        demo_bundle.verified(file)
    listed = {file.path for file in demo_bundle.manifest.files}
    for path in demo_bundle.root.rglob("*"):
        name = path.relative_to(demo_bundle.root).as_posix()
        assert path.is_dir() or name == "manifest.json" or any(name == at or name.startswith(f"{at}/") for at in listed)
    roles = Counter(file.role for file in demo_bundle.manifest.files)
    assert roles["model"] == 6
    once = ("checkpoint", "float-program", "ranges", "recipe", "calibration-set")
    assert [roles[role] for role in once] == [1] * 5


def test_the_recipe_comes_back(demo_bundle: Bundle) -> None:
    assert load_recipe(demo_bundle.verified(demo_bundle.file("recipe"))) == Recipe()
    assert load_ranges(demo_bundle.root / "ranges.json").recipe == Recipe()


def test_the_calibration_set_is_recorded_and_apart(demo_bundle: Bundle) -> None:
    path = demo_bundle.verified(demo_bundle.file("calibration-set"))
    used = msgspec.json.decode(path.read_bytes(), type=CalibrationSet)
    assert len(used.images) == Recipe().images
    assert max(used.class_counts().values()) - min(used.class_counts().values()) <= 1
    source = open_data("digits", "calibration")
    hashes = {pictures_on_disk.sha256(source, i): source.classes[source.labels[i]] for i in range(len(source))}
    assert all(hashes[image.sha256] == image.label for image in used.images)
    assert used == load_ranges(demo_bundle.root / "ranges.json").calibration_set
    check_disjoint(used, open_data("digits", "test"))
    with pytest.raises(BadCalibration, match="were used for calibration"):
        check_disjoint(used, source)


def test_a_checkpoint_that_describes_itself_is_copied_byte_for_byte(demo_bundle: Bundle) -> None:
    copied = demo_bundle.verified(demo_bundle.file("checkpoint"))
    assert copied.name == "checkpoint.safetensors"
    assert copied.read_bytes() == builtin().read_bytes()


def test_the_evidence_makes_the_device_files_again(
    demo_bundle: Bundle,
    floats: torch.Tensor,
    float_logits: np.ndarray,
    answers: dict[tuple[str, str], np.ndarray],
) -> None:
    """The float program computes the checkpoint's logits; quantized with the ranges, those of the int8 files."""
    program = torch.export.load(demo_bundle.verified(demo_bundle.file("float-program")))
    graph = graph_of(program)
    with torch.no_grad():
        assert sqnr_db(float_logits, graph(floats).numpy()) >= 90
    ranges = load_ranges(demo_bundle.verified(demo_bundle.file("ranges")))
    with hushed():
        quantized, _ = quantize(graph, ranges, fold_weights=True)
    simulated = Simulator(quantized)(floats[:40]).numpy()
    for target in RUN_HERE:
        assert sqnr_db(simulated, answers[target, "int8"][:40]) >= 40


# --- a small network ------------------------------------------------------------------------------------------------


@pytest.fixture
def job(small_family: Any, small_checkpoint: Path, small_pictures: Path, tmp_path: Path) -> Job:  # noqa: ARG001
    """An int8 ``.tflite``; tests change what they are about."""
    return Job(
        checkpoint=load(small_checkpoint),
        files=[(targets.targets()["tflite"], "int8")],
        images=open_data(str(small_pictures), "calibration"),
        recipe=Recipe(images=32, observer="minmax"),
        out=tmp_path / "out" / "bundle",
    )


def silently(_step: str) -> None:
    """No progress."""


def left_in(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))


def test_ranges_are_used_again(job: Job) -> None:
    """By another export of other pictures: the same scales, and the same file to the byte."""
    first = build(job, silently)
    ranges = load_ranges(first.verified(first.file("ranges")))
    recipe = Recipe(images=8, seed=5)
    second = build(replace(job, ranges=ranges, recipe=recipe, out=job.out.with_name("second")), silently)
    files = [file_of(bundle, "tflite", "int8") for bundle in (first, second)]
    assert files[0].sha256 == files[1].sha256
    assert (second.root / "ranges.json").read_bytes() == (first.root / "ranges.json").read_bytes()
    assert load_recipe(second.root / "recipe.toml") == job.recipe
    assert second.file("calibration-set").sha256 == first.file("calibration-set").sha256


def test_ranges_of_other_weights_are_refused(job: Job, tmp_path: Path) -> None:
    from pipeline.build import calibrate, capture

    ranges = calibrate(capture(job.checkpoint, job.images, job.recipe), job.recipe)
    other = replace(job.checkpoint, sha256="1" * 64)
    with pytest.raises(BadCalibration, match=r"belong to checkpoint .* not to 111111111111…"):
        build(replace(job, checkpoint=other, ranges=ranges), silently)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("target", ["executorch", "tflite", "coreml"])
def test_layers_that_stay_in_float_are_recorded(job: Job, target: str) -> None:
    recipe = msgspec.structs.replace(job.recipe, float_layers=("classifier.*",))
    bundle = build(replace(job, files=[(targets.targets()[target], "int8")], recipe=recipe), silently)
    file = file_of(bundle, target, "int8")
    assert file.float_layers == ("classifier.0",)
    assert load_recipe(bundle.root / "recipe.toml") == recipe
    with hushed():
        census = targets.targets()[target].census(bundle.root / file.path)
    assert (census.integer_layers, census.float_layers) == (4, 1)


# --- what an exporter or a runtime can do -----------------------------------------------------------------------------


def right(checkpoint: Checkpoint) -> Callable[[np.ndarray], np.ndarray]:
    """Answers of the float network."""
    front = ImageInput(checkpoint.network(), checkpoint.preprocess).eval()

    def answer(batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return front(torch.from_numpy(batch).permute(0, 3, 1, 2).float()).numpy()

    return answer


def test_steps_are_announced(job: Job, fake_target: Any, fake_runtime: Callable[..., None]) -> None:
    fake_runtime(right(job.checkpoint))
    for precision, second in (("fp32", "Preparing"), ("int8", "Calibrating")):
        steps: list[str] = []
        one = replace(job, files=[(fake_target(), precision)], out=job.out.with_name(precision))  # type: ignore[list-item]
        build(one, steps.append)
        assert steps == ["Capturing the network", second, f"fake {precision}"]
        assert len(steps) == one.steps()


def test_a_state_dict_of_others_is_kept_as_a_file_that_says_what_it_is(
    job: Job, fake_target: Any, small_network: nn.Module, fake_runtime: Callable[..., None], tmp_path: Path
) -> None:
    fake_runtime(right(job.checkpoint))
    path = tmp_path / "theirs.pt"
    torch.save(small_network.state_dict(), path)
    theirs = load(path, model="small", labels=job.checkpoint.labels, preprocess=job.checkpoint.preprocess)
    assert not theirs.describes_itself
    job = replace(job, files=[(fake_target(), "fp32")])
    bundle = build(replace(job, checkpoint=theirs), silently)
    assert bundle.manifest.provenance.checkpoint_sha256 == sha256_of(path)
    kept = load(bundle.verified(bundle.file("checkpoint")))
    assert kept.path.name == "checkpoint.safetensors"
    assert kept.describes_itself
    assert (kept.spec, kept.options, kept.labels) == (theirs.spec, theirs.options, theirs.labels)
    assert kept.preprocess == theirs.preprocess
    assert kept.sha256 == sha256_of(path)  # so that nobody takes the files for those of another checkpoint
    assert all(torch.equal(tensor, kept.state[name]) for name, tensor in theirs.state.items())
    again = build(replace(job, checkpoint=kept, out=job.out.with_name("again")), silently)
    assert again.manifest.provenance == bundle.manifest.provenance
    assert again.file("checkpoint").sha256 == bundle.file("checkpoint").sha256


def test_a_checkpoint_overwritten_during_the_export(
    job: Job, fake_target: Any, small_checkpoint: Path, fake_runtime: Callable[..., None], tmp_path: Path
) -> None:
    """A training that goes on writes the same file again: the bundle holds what was exported."""
    fake_runtime(right(job.checkpoint))
    mine = Path(shutil.copy(small_checkpoint, tmp_path / "mine.safetensors"))
    loaded = load(mine)
    mine.write_bytes(b"the next epoch")
    bundle = build(replace(job, checkpoint=loaded, files=[(fake_target(), "fp32")]), silently)
    assert (bundle.root / "float" / "checkpoint.safetensors").read_bytes() == small_checkpoint.read_bytes()


def test_a_comparison_by_hand(job: Job, fake_target: Any, fake_runtime: Callable[..., None]) -> None:
    """Logits doubled are noise as strong as the signal: 0 dB, and fewer than 32 pictures are marked."""
    answer = right(job.checkpoint)
    fake_runtime(lambda batch: 2 * answer(batch))
    recipe = msgspec.structs.replace(job.recipe, images=20)
    bundle = build(replace(job, files=[(fake_target(), "fp32")], recipe=recipe), silently)
    said = file_of(bundle, "fake", "fp32").comparison
    assert said == {
        "status": "run",
        "runtime": "fake 1",
        "images": 20,
        "enough_images": False,
        "sqnr_float_db": pytest.approx(0, abs=0.01),
    }
    assert file_of(bundle, "fake", "fp32").operators == {"conv": 5}
    assert not (bundle.root / "ranges.json").exists()


def test_one_calibration_picture_is_enough_to_export(
    job: Job, fake_target: Any, fake_runtime: Callable[..., None]
) -> None:
    fake_runtime(right(job.checkpoint))
    recipe = msgspec.structs.replace(job.recipe, images=1)
    bundle = build(replace(job, files=[(fake_target(), "int8")], recipe=recipe), silently)
    assert file_of(bundle, "fake", "int8").comparison["enough_images"] is False


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_file_that_computes_no_numbers(
    job: Job, fake_target: Any, fake_runtime: Callable[..., None], tmp_path: Path, value: float
) -> None:
    fake_runtime(lambda batch: np.full((len(batch), 2), value, np.float32))
    with pytest.raises(LoweringFailed, match=r"small-fp32\.fake and the network cannot be compared: .*NaN or infinity"):
        build(replace(job, files=[(fake_target(), "fp32")]), silently)
    assert left_in(tmp_path) == []


def test_an_exporter_that_fails_is_quoted_in_one_line(job: Job, fake_target: Any, tmp_path: Path) -> None:
    broken = fake_target(fails=ValueError("no kernel for aten::magic\nand a page\nof traceback"))
    with pytest.raises(LoweringFailed) as error:
        build(replace(job, files=[(broken, "fp32")]), silently)
    assert str(error.value) == (
        "fake fp32: the exporter failed with ValueError: no kernel for aten::magic. Run with --debug for the traceback."
    )
    assert error.value.exit_status == 1
    assert left_in(tmp_path) == []


def test_an_interruption_while_lowering(
    job: Job, fake_target: Any, fake_runtime: Callable[..., None], tmp_path: Path
) -> None:
    fake_runtime(right(job.checkpoint))
    files = [(fake_target(), "fp32"), (fake_target(fails=KeyboardInterrupt(), name="second"), "int8")]
    with pytest.raises(KeyboardInterrupt):
        build(replace(job, files=files), silently)
    assert left_in(tmp_path) == []


def test_an_int8_file_whose_layers_stayed_in_float_is_none(job: Job, fake_target: Any, tmp_path: Path) -> None:
    with pytest.raises(LoweringFailed, match=r"2 convolution and linear layers compute in float .* 0 were meant to"):
        build(replace(job, files=[(fake_target(kept_float=2), "int8")]), silently)
    assert left_in(tmp_path) == []


def test_what_is_not_installed_is_said_first(job: Job, fake_target: Any, tmp_path: Path) -> None:
    steps: list[str] = []
    absent = fake_target(absent="fakelib not installed: pip install 'edge-pipeline[export]'")
    with pytest.raises(
        MissingExtra, match=r"'fake' cannot be exported: fakelib .*pip install 'edge-pipeline\[export\]'"
    ):
        build(replace(job, files=[*job.files, (absent, "fp32")]), steps.append)
    assert (steps, left_in(tmp_path)) == ([], [])


def test_tools_that_are_not_installed_are_not_listed(
    job: Job, fake_target: Any, fake_runtime: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One target can be exported without the packages of the others."""
    fake_runtime(right(job.checkpoint))
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "coremltools":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    tools = build(replace(job, files=[(fake_target(), "fp32")]), silently).manifest.provenance.tools
    assert "coremltools" not in tools
    assert tools["torch"] == real("torch")


def test_weights_that_blow_up_are_named_before_anything_is_lowered(job: Job, tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in job.checkpoint.state.items()}
    state["classifier.0.weight"].fill_(3e38)
    with pytest.raises(BadCalibration, match="NaN or infinite during calibration"):
        build(replace(job, checkpoint=replace(job.checkpoint, state=state)), silently)
    assert left_in(tmp_path) == []
