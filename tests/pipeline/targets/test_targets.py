"""Every target, every precision, found through the registry, on a small network."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from calibration.recipe import Recipe
from edge_apps.chatter import hushed
from edge_apps.errors import BadInput, BadManifest, NotRunHere
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import FileManifest, to_json
from edge_apps.runtime.precisions import Precision
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.runtime.runner import open_runner
from pipeline import targets
from pipeline.graphs.front_ends import ImageInput
from pipeline.metrics.sqnr import sqnr_db
from pipeline.targets.base import Source

LABELS = ("a", "b", "c", "d", "e")
EVERY = [(name, precision) for name, target in targets.targets().items() for precision in target.precisions]
LAYERS = 6  # of the small network


@pytest.fixture(scope="module")
def source(
    small: nn.Module, preprocess: Preprocess, pictures: torch.Tensor, calibrated: Callable[..., Source]
) -> Source:
    return calibrated(small, preprocess, pictures, Recipe(observer="minmax"))


@pytest.fixture(scope="module")
def written(
    source: Source, lowered: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, Precision], Path]:
    folder = tmp_path_factory.mktemp("files")
    return {(name, precision): lowered(source, name, precision, LABELS, folder) for name, precision in EVERY}


@pytest.mark.parametrize(("name", "precision"), EVERY)
def test_census_finds_every_layer(written: dict[tuple[str, Precision], Path], name: str, precision: Precision) -> None:
    with hushed():
        census = targets.targets()[name].census(Content.read(written[name, precision]))
    assert census.integer_layers + census.float_layers == LAYERS
    assert census.integer_layers == (LAYERS if precision == "int8" else 0)
    assert bool(census.activations) == (precision == "int8")
    assert sum(census.operators.values()) >= LAYERS
    if census.delegation is not None and precision in ("fp32", "int8"):
        assert census.delegation.partitions == 1
        assert census.delegation.share == 1
        assert not census.delegation.left_out


def test_all_int8_files_have_the_scales_of_the_one_calibration(
    written: dict[tuple[str, Precision], Path], source: Source
) -> None:
    expected = sorted({source.required_ranges.qparams(key) for key in source.required_ranges.values})
    for name, target in targets.targets().items():
        with hushed():
            found = sorted(target.census(Content.read(written[name, "int8"])).activations)
        assert [zero_point for _, zero_point in found] == [zero_point for _, zero_point in expected], name
        assert [scale for scale, _ in found] == pytest.approx([scale for scale, _ in expected], rel=1e-6), name


@pytest.mark.parametrize(("name", "precision"), EVERY)
def test_the_file_computes_the_network(
    written: dict[tuple[str, Precision], Path],
    small: nn.Module,
    preprocess: Preprocess,
    pictures: torch.Tensor,
    about: Callable[..., FileManifest],
    name: str,
    precision: Precision,
) -> None:
    path = written[name, precision]
    if targets.targets()[name].suffix == ".mlpackage":
        with pytest.raises(NotRunHere, match="Core ML exists on macOS only"):
            open_runner(Content.read(path))
        return
    with torch.no_grad():
        expected = ImageInput(small, preprocess).eval()(pictures).numpy()
    runner = open_runner(Content.read(path))
    batch = pictures.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    answered = runner.run(batch)
    assert answered.dtype == np.float32
    assert answered.shape == (len(batch), len(LABELS))
    assert sqnr_db(expected, answered) > {"fp32": 60, "fp16": 40, "int8": 15, "int8-weights": 25}[precision]
    assert runner.manifest == about(name, precision, LABELS, preprocess)
    assert runner.threads == 1
    with pytest.raises(BadInput, match="takes uint8 \\[N, 32, 32, 3\\]"):
        runner.run(batch.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="takes uint8"):
        runner.run(batch[:, :16])
    runner.close()


@pytest.mark.parametrize("name", targets.names())
def test_a_truncated_or_foreign_file_is_one_line(
    written: dict[tuple[str, Precision], Path], name: str, tmp_path: Path
) -> None:
    path = written[name, "int8"]
    if path.is_dir():
        pytest.skip("a Core ML package cannot be opened on this machine: NOT run")
    data = path.read_bytes()
    for label, damaged in {"half": data[: len(data) // 2], "foreign": b"hello" * 100, "empty": b""}.items():
        copy = tmp_path / f"{label}{path.suffix}"
        copy.write_bytes(damaged)
        with pytest.raises(BadInput) as caught:
            open_runner(Content.read(copy))
        assert "\n" not in str(caught.value)
        assert str(copy) in str(caught.value)


@pytest.mark.parametrize(("name", "entry"), [("executorch", b"edge_manifest"), ("tflite", b"edge_pipeline")])
def test_a_file_that_does_not_describe_itself(
    written: dict[tuple[str, Precision], Path], name: str, entry: bytes, tmp_path: Path
) -> None:
    path = written[name, "fp32"]
    other = tmp_path / f"others{path.suffix}"
    assert path.read_bytes().count(entry) == 1
    other.write_bytes(path.read_bytes().replace(entry, b"x" * len(entry)))
    with pytest.raises(BadManifest, match=f"'{other}' does not describe itself"):
        open_runner(Content.read(other))


@pytest.mark.parametrize("name", ["executorch", "tflite"])
@pytest.mark.parametrize("count", [4, 6])
def test_a_file_with_another_number_of_labels_than_logits(
    written: dict[tuple[str, Precision], Path],
    preprocess: Preprocess,
    about: Callable[..., FileManifest],
    name: str,
    count: int,
    tmp_path: Path,
) -> None:
    """Same length, other labels: the JSON can be changed in place."""
    path = written[name, "fp32"]
    said = to_json(about(name, "fp32", LABELS, preprocess)).encode()
    labels = b'"labels":["a","b","c","d","e"]'
    others = {4: b'"labels":["a","b","c","defg"] ', 6: b'"labels":["","","c","","",""] '}[count]
    assert path.read_bytes().count(said) == said.count(labels) == 1
    assert len(others) == len(labels)
    other = tmp_path / f"others{path.suffix}"
    other.write_bytes(path.read_bytes().replace(labels, others))
    with pytest.raises(BadManifest, match=f"computes 5 logits but names {count} labels"):
        open_runner(Content.read(other))


@pytest.mark.parametrize(("precision", "bytes_each"), [("fp32", 4), ("fp16", 2), ("int8", 1), ("int8-weights", 1)])
def test_every_tflite_weight_is_stored_as_asked(
    written: dict[tuple[str, Precision], Path], small: nn.Module, precision: Precision, bytes_each: int
) -> None:
    """Depthwise kernels too, which a default size threshold would skip."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(written["tflite", precision].read_bytes()), 0))
    stored = [len(buffer.data) for buffer in model.buffers if buffer.data is not None]
    weights = [parameter.numel() for parameter in small.parameters() if parameter.dim() > 1]
    assert len(weights) == LAYERS
    for count in weights:
        assert count * bytes_each in stored


def test_tensors_of_a_tflite_have_short_names_of_their_own(written: dict[tuple[str, Precision], Path]) -> None:
    """Not those of the classes that they were captured through, a hundred bytes each."""
    from ai_edge_litert import schema_py_generated as schema

    for precision in targets.targets()["tflite"].precisions:
        data = bytearray(written["tflite", precision].read_bytes())
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        names = [tensor.name.decode() for tensor in model.subgraphs[0].tensors]
        assert all(0 < len(name) < 60 for name in names)
        assert not [name for name in names if "torch" in name or "pipeline" in name]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("text", "name"),
    [("pte", "executorch"), ("ios", "coreml"), ("MLPackage", "coreml"), ("litert", "tflite"), ("tflite", "tflite")],
)
def test_aliases(text: str, name: str) -> None:
    assert targets.canonical(text) == name


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(
        BadInput, match=r"Unknown target 'coreml2'. Did you mean 'coreml'\? Known: coreml, executorch, tflite."
    ):
        targets.canonical("coreml2")
    with pytest.raises(BadInput, match=r"Unknown precision 'int9'. Did you mean 'int8'\?"):
        targets.plan(targets.choose_targets(["all"]), ["int9"])


def test_plan_skips_by_default_and_refuses_by_name() -> None:
    every = targets.choose_targets(["all"])
    files, notes = targets.plan(every, [])
    assert {(t.name, p) for t, p in files} == {(n, p) for n in targets.names() for p in ("fp32", "int8")}
    assert notes == []
    with pytest.raises(BadInput, match="Target 'executorch' cannot do precision 'int8-weights'"):
        targets.plan(every, ["fp32,int8-weights"])


def test_targets_may_be_repeated_or_comma_separated() -> None:
    assert [t.name for t in targets.choose_targets(["pte,tflite", "executorch"])] == ["executorch", "tflite"]
    with pytest.raises(BadInput, match="No target given"):
        targets.choose_targets([" ,"])


def test_names_that_would_be_nothing_or_twice_the_same() -> None:
    from pipeline.targets.tflite import _short_names

    network = "pipeline.graphs.front_ends.BytesInput/pipeline.graphs.flat.FlatNetwork_network"
    place = f"{network}/pipeline.graphs.flat.Place_"
    wrapper = "torch.export._trace._non_strict_export.<locals>.Wrapper;"
    given = [f"{place}0;3", f"{place}relu;;{place}conv1;", f"{place}0;3", network, wrapper, "arith.constant"]
    assert _short_names(given) == ["0;3", "relu;;conv1", "0;3.2", "constant", "constant.4", "arith.constant"]
