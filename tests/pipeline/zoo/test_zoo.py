"""Every model that the zoo lists: it builds, it takes the sizes it says it takes, and it refuses the rest."""

import subprocess
import sys

import pytest
import torch

from pipeline import zoo
from pipeline.cost import count
from pipeline.errors import BadInput
from pipeline.zoo.spec import ModelSpec, Option

every_model = pytest.mark.parametrize("spec", zoo.specs().values(), ids=zoo.specs())
EVERY_OPTION = [(spec, name) for spec in zoo.specs().values() for name in spec.options]


def test_the_registry_names_its_models() -> None:
    assert all(name == spec.name for name, spec in zoo.specs().items())
    assert zoo.get("mobilenet_v2") is zoo.specs()["mobilenet_v2"]


@every_model
def test_logits_of_a_batch(spec: ModelSpec) -> None:
    size = max(64, spec.stride)
    with torch.device("meta"):
        network = spec.build(7)
    assert network.training
    logits = network.eval()(torch.empty(2, 3, size, size, device="meta"))
    assert (logits.shape, logits.dtype) == ((2, 7), torch.float32)


@every_model
def test_its_own_class_count_is_the_default(spec: ModelSpec) -> None:
    with torch.device("meta"):
        logits = spec.build().eval()(torch.empty(1, 3, 64, 64, device="meta"))
    assert logits.shape == (1, spec.classes)


@every_model
@pytest.mark.parametrize(("height", "width"), [(33, 33), (97, 97), (33, 97), (224, 160)])
def test_odd_and_oblong_inputs(spec: ModelSpec, height: int, width: int) -> None:
    if min(height, width) < spec.stride:
        pytest.skip(f"{spec.name} takes {spec.stride} and more")
    torch.manual_seed(0)
    with torch.no_grad():
        logits = spec.build(3).eval()(torch.randn(1, 3, height, width))
    assert logits.shape == (1, 3)
    assert torch.isfinite(logits).all()


@every_model
def test_the_smallest_and_the_largest_input(spec: ModelSpec) -> None:
    for size in (spec.stride, 2048):
        assert spec.check_input(size) == size
        with torch.device("meta"):
            logits = spec.build(2).eval()(torch.empty(1, 3, size, size, device="meta"))
        assert logits.shape == (1, 2)
    for size in (spec.stride - 1, 0, -32, 2049):
        with pytest.raises(BadInput, match=f"Input size is {size}; '{spec.name}' takes {spec.stride} to 2048"):
            spec.check_input(size)


@every_model
def test_equal_seeds_build_equal_networks(spec: ModelSpec) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(spec.build(2).state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not all(torch.equal(tensor, states[2][name]) for name, tensor in states[0].items())


@pytest.mark.parametrize(("spec", "name"), EVERY_OPTION, ids=[f"{spec.name}-{name}" for spec, name in EVERY_OPTION])
def test_both_ends_of_an_option(spec: ModelSpec, name: str) -> None:
    option = spec.options[name]
    costs = []
    for value in (option.minimum, option.maximum):
        with torch.device("meta"):
            costs.append(count(spec.build(2, **{name: value}), 64, 64))
    assert costs[0].params < costs[1].params
    for value in (option.minimum * 0.99, option.maximum * 1.01, -1, float("inf")):
        with pytest.raises(BadInput, match=f"Option {name} is .*allowed {option.minimum} to {option.maximum}"):
            spec.build(2, **{name: value})
    for value in ("1", None, True, float("nan")):
        with pytest.raises(BadInput, match=f"Option {name} is .*expected a {type(option.default).__name__}"):
            spec.build(2, **{name: value})


@every_model
def test_what_it_does_not_have_is_refused(spec: ModelSpec) -> None:
    with pytest.raises(BadInput, match=f"Model '{spec.name}' has no option 'magic'. Known: "):
        spec.build(2, magic=1)
    with pytest.raises(BadInput, match="Class count is 0; at least 1 is needed"):
        spec.build(0)


def test_a_whole_number_is_no_fraction() -> None:
    option = Option(3, 1, 9, "layers")
    assert (option.check("depth", 4.0), type(option.check("depth", 4.0))) == (4, int)
    with pytest.raises(BadInput, match=r"Option depth is 4.5; expected a int"):
        option.check("depth", 4.5)


@pytest.mark.parametrize(("text", "hint"), [("mobilenet_v3", " Did you mean 'mobilenet_v2'?"), ("x", ""), ("", "")])
def test_an_unknown_model_names_the_nearest_and_all(text: str, hint: str) -> None:
    with pytest.raises(BadInput) as error:
        zoo.get(text)
    assert str(error.value) == f"Unknown model '{text}'.{hint} Known: {', '.join(sorted(zoo.specs()))}."


def test_models_are_found_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pipeline import zoo\n"
        "print(*zoo.specs())\n"
        "assert all(spec.with_defaults({}) is not None for spec in zoo.specs().values())\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == list(zoo.specs())
