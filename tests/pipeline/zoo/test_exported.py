"""Whole on every target: each member of the zoo as files that are executed here, from random weights.

One member of each family always, at a small input where that says as much; every model as published under ``long``.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest

from edge_apps.runtime.manifest import Bundle, BundleFile
from pipeline import zoo
from pipeline.benchmarking.untrained import untrained_bundle
from pipeline.data import open_data

# Model, input, options. AlexNet and VGG of half width, with a classifier that sees what small inputs leave: their 60
# and 130 million parameters take minutes to write and say no more.
MEMBERS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("alexnet_one_tower", 95, {"grid": 2, "width": 0.5}),
    ("alexnet", 67, {"grid": 1, "width": 0.5}),
    ("vgg_a", 32, {"grid": 1, "width": 0.5}),
    ("googlenet", 64, {}),
    ("resnet18", 64, {}),
    ("se_resnet18", 64, {}),
    ("squeezenet_1_1", 64, {}),
    ("mobilenet_v1", 128, {"width": 0.25}),
    ("mobilenet_v2", 64, {}),
    ("shufflenet_v1", 64, {"groups": 3}),
    ("effnet", 32, {}),
    ("fd_mobilenet", 64, {"width": 0.25}),
    ("efficientnet_b0", 64, {}),
)
# Squeeze and excitation in the other units that take it.
LONG: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("mobilenet_v2", 64, {"reduction": 4}),
    ("shufflenet_v1", 64, {"groups": 3, "width": 0.5, "reduction": 16}),
)
AS_PUBLISHED = tuple((spec.name, spec.input_size, {}) for spec in zoo.specs().values())


def _name(model: str, size: int, options: dict[str, Any]) -> str:
    return f"{model}-{size}{'-gated' if options.get('reduction') else ''}"


def gated(bundle: Bundle) -> bool:
    """Squeeze and excitation: always there in EfficientNet, elsewhere by the option ``reduction``, SENet's at 16."""
    return bundle.manifest.model.startswith("efficientnet") or bool(bundle.manifest.options.get("reduction"))


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param(member, id=_name(*member)) for member in MEMBERS),
        *(pytest.param(member, id=_name(*member), marks=pytest.mark.long) for member in LONG),
        *(pytest.param(member, id=f"{member[0]}-as-published", marks=pytest.mark.long) for member in AS_PUBLISHED),
    ],
)
def bundle(request: pytest.FixtureRequest, uncovered: Callable[[], AbstractContextManager[None]]) -> Iterator[Bundle]:
    name, size, options = request.param
    spec = zoo.get(name)
    images = open_data("digits", "calibration")
    with ExitStack() as stack:
        with uncovered():
            making = untrained_bundle(spec, spec.with_defaults(options), size, images)
            made = stack.enter_context(making)
        yield made


def executed(bundle: Bundle) -> list[BundleFile]:
    return [file for file in bundle.models() if file.comparison.status == "run"]


@pytest.mark.timeout(7200)  # EfficientNet-B7 is an hour of a slow core
def test_every_file_computes_its_network(bundle: Bundle) -> None:
    """fp32 is the float network; int8 is its own quantized graph."""
    assert {(file.target, file.precision) for file in bundle.models()} == {
        (target, precision) for target in ("coreml", "executorch", "tflite") for precision in ("fp32", "int8")
    }
    assert {file.target for file in executed(bundle)} >= {"executorch", "tflite"}
    for file in executed(bundle):
        compared = file.comparison
        figure = compared.sqnr_float_db if file.precision == "fp32" else compared.sqnr_graph_db
        assert figure is not None
        assert figure >= (60 if file.precision == "fp32" else 40), file.path
        assert compared.word != "bad", (file.path, compared.findings)


def test_every_file_is_whole_on_the_delegate(bundle: Bundle) -> None:
    for file in executed(bundle):
        assert file.delegated.partitions == 1, file.path
        assert file.delegated.share == 1, file.path
        assert file.delegated.left_out == {}, file.path


def test_gates_and_activations_stay_in_int8(bundle: Bundle) -> None:
    """LiteRT has no float island in a network of squeeze-and-excitation or SiLU: one QUANTIZE, at the entrance."""
    file = next(file for file in bundle.models() if (file.target, file.precision) == ("tflite", "int8"))
    assert file.float_layers == ()
    if gated(bundle):
        assert file.operators.get("DEQUANTIZE", 0) == 0
        assert file.operators["QUANTIZE"] == 1
        assert file.operators["LOGISTIC"] > 0


OF_THREE_AND_A_HALF_MILLION = ("mobilenet_v2", 64)
"""Its constants lie behind the flatbuffer of a ``.tflite``, as those of every larger network do."""


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(*OF_THREE_AND_A_HALF_MILLION, id="mobilenet_v2-64"),
        *(
            pytest.param(name, size, id=f"{name}-as-published", marks=pytest.mark.long)
            for name, size, _ in AS_PUBLISHED
        ),
    ],
)
def test_every_other_precision_computes_its_network(
    name: str, size: int, uncovered: Callable[[], AbstractContextManager[None]]
) -> None:
    """fp16 and int8-weights, at the published number of parameters."""
    spec = zoo.get(name)
    images = open_data("digits", "calibration")
    with (
        uncovered(),
        untrained_bundle(spec, spec.with_defaults({}), size, images, precisions=("fp16", "int8-weights")) as bundle,
    ):
        files = {(file.target, file.precision): file for file in bundle.models()}
        assert set(files) == {
            ("coreml", "fp16"), ("coreml", "int8-weights"), ("executorch", "fp16"), ("tflite", "fp16"),
            ("tflite", "int8-weights"),
        }  # fmt: skip
        for file in executed(bundle):
            assert file.comparison.word in ("good", "check"), (file.path, file.comparison)
        weights = files["tflite", "int8-weights"].comparison.sqnr_graph_db
        assert weights is not None
        assert weights >= 60
