"""The built-in checkpoint in every target, fp32 and int8: real files, and the evidence beside them."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from calibration.dataset.dataset import CalibrationSet, check_disjoint
from calibration.quantize import quantize
from calibration.ranges import load_ranges
from calibration.recipe import Recipe, load_recipe
from calibration.simulate import Simulator
from edge_apps import images as pictures_on_disk
from edge_apps.chatter import hushed
from edge_apps.runtime.content import Content, sha256_of
from edge_apps.runtime.manifest import METADATA_NAME, Bundle, BundleFile, FileManifest, parse_file_manifest
from edge_apps.runtime.preprocess import Preprocess, to_batch
from edge_apps.runtime.runner import open_runner
from pipeline import targets
from pipeline.checkpoints.checkpoint import builtin
from pipeline.checkpoints.load import load
from pipeline.data import open_data
from pipeline.errors import BadCalibration
from pipeline.graphs.front_ends import graph_of
from pipeline.metrics.sqnr import EQUAL_DB, sqnr_db

MOBILENET_LAYERS = 53
RUN_HERE = ("executorch", "tflite")


def file_of(bundle: Bundle, target: str, precision: str) -> BundleFile:
    (found,) = [file for file in bundle.models() if (file.target, file.precision) == (target, precision)]
    return found


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
            runner = open_runner(Content.read(demo_bundle.read(file).path), threads=2)
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
        assert (said.status, said.images, said.enough_images) == ("run", 32, True)
        assert (said.judged_on, said.word, said.findings) == ("held-out", "good", ())
        assert said.sqnr_float_db is not None
        assert said.sqnr_float_db >= (60 if precision == "fp32" else 25)
        assert said.agreement_float is not None
        assert said.agreement_float >= 0.95
        assert said.sqnr_graph_db == (EQUAL_DB if precision == "int8" else None)


def test_core_ml_is_not_run_here(demo_bundle: Bundle) -> None:
    for precision in ("fp32", "int8"):
        said = file_of(demo_bundle, "coreml", precision).comparison
        if said.status == "run":
            pytest.skip("this is a Mac")
        assert said.status == "not run"
        assert "macOS only" in said.reason
        assert (said.sqnr_float_db, said.word) == (None, None)


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
    ranges = load_ranges(demo_bundle.read(demo_bundle.file("ranges")).path)
    expected = sorted({ranges.qparams(key) for key in ranges.values})
    for name, target in targets.targets().items():
        with hushed():
            census = target.census(Content.read(demo_bundle.root / file_of(demo_bundle, name, "int8").path))
        found = sorted(census.activations)
        assert [zero for _, zero in found] == [zero for _, zero in expected], name
        assert [scale for scale, _ in found] == pytest.approx([scale for scale, _ in expected], rel=1e-6), name
        assert (census.integer_layers, census.float_layers) == (MOBILENET_LAYERS, 0), name


def test_one_delegate_takes_it_all(demo_bundle: Bundle) -> None:
    for target in RUN_HERE:
        for precision in ("fp32", "int8"):
            file = file_of(demo_bundle, target, precision)
            assert file.delegated.partitions == 1, file.path
            assert not any("conv" in name or "linear" in name for name in file.delegated.outside), file.path


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
        runner = open_runner(Content.read(path))
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
    evidence = {file.role: file.sha256 for file in demo_bundle.manifest.files if file.role != "model"}
    assert about.provenance.evidence == evidence
    of_float = {role: sha256 for role, sha256 in evidence.items() if role in ("checkpoint", "float-program")}
    without_ranges = msgspec.structs.replace(about.provenance, ranges_sha256=None, evidence=of_float)
    for file in demo_bundle.models():
        said = embedded(demo_bundle.root / file.path)
        assert (said.target, said.precision) == (file.target, file.precision)
        assert file.path.startswith(f"{about.model}-{file.precision}.")
        assert (said.model, said.options, said.labels) == (about.model, about.options, about.labels)
        assert said.preprocess == about.preprocess
        assert set(said.exported) == {model.path for model in demo_bundle.models()}
        assert said.provenance == (about.provenance if file.precision == "int8" else without_ranges)


def test_every_file_is_listed_and_is_what_is_listed(demo_bundle: Bundle) -> None:
    for file in demo_bundle.manifest.files:
        demo_bundle.read(file)
    listed = {file.path for file in demo_bundle.manifest.files}
    for path in demo_bundle.root.rglob("*"):
        name = path.relative_to(demo_bundle.root).as_posix()
        assert path.is_dir() or name == "manifest.json" or any(name == at or name.startswith(f"{at}/") for at in listed)
    roles = Counter(file.role for file in demo_bundle.manifest.files)
    assert roles["model"] == 6
    once = ("checkpoint", "float-program", "ranges", "recipe", "calibration-set")
    assert [roles[role] for role in once] == [1] * 5


def test_the_recipe_comes_back(demo_bundle: Bundle) -> None:
    assert load_recipe(demo_bundle.read(demo_bundle.file("recipe")).path) == Recipe().fitted(1_000)
    assert load_ranges(demo_bundle.root / "ranges.json").recipe == Recipe().fitted(1_000)


def test_the_calibration_set_is_recorded_and_apart(demo_bundle: Bundle) -> None:
    content = demo_bundle.read(demo_bundle.file("calibration-set"))
    used = msgspec.json.decode(content.data, type=CalibrationSet)
    assert len(used.images) == Recipe().fitted(1_000).images
    assert max(used.class_counts().values()) - min(used.class_counts().values()) <= 1
    source = open_data("digits", "calibration")
    hashes = {pictures_on_disk.sha256(source, i): source.classes[source.labels[i]] for i in range(len(source))}
    assert all(hashes[image.sha256] == image.label for image in used.images)
    assert used == load_ranges(demo_bundle.root / "ranges.json").calibration_set
    check_disjoint(used, open_data("digits", "test"))
    with pytest.raises(BadCalibration, match="were used for calibration"):
        check_disjoint(used, source)


def test_a_checkpoint_that_describes_itself_is_copied_byte_for_byte(demo_bundle: Bundle) -> None:
    copied = demo_bundle.read(demo_bundle.file("checkpoint"))
    assert copied.path.name == "checkpoint.safetensors"
    assert copied.data == builtin().read_bytes()


def test_the_evidence_makes_the_device_files_again(
    demo_bundle: Bundle,
    floats: torch.Tensor,
    float_logits: np.ndarray,
    answers: dict[tuple[str, str], np.ndarray],
) -> None:
    """The float program computes the checkpoint's logits; quantized with the ranges, those of the int8 files."""
    program = torch.export.load(demo_bundle.read(demo_bundle.file("float-program")).path)
    graph = graph_of(program)
    with torch.no_grad():
        assert sqnr_db(float_logits, graph(floats).numpy()) >= 90
    ranges = load_ranges(demo_bundle.read(demo_bundle.file("ranges")).path)
    with hushed():
        quantized, _ = quantize(graph, ranges, fold_weights=True)
    simulated = Simulator(quantized)(floats[:40]).numpy()
    for target in RUN_HERE:
        assert sqnr_db(simulated, answers[target, "int8"][:40]) >= 40
