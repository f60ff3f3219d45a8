"""Every model that the zoo lists: it builds, it takes the sizes it says it takes, and it refuses the rest.

Shapes and counts are taken on the meta device, where nothing is allocated; numbers are looked at in networks small
enough to build for real.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
import torch

from pipeline import zoo
from pipeline.commands.options.model import family
from pipeline.errors import BadInput
from pipeline.zoo.spec import LARGEST_INPUT, ModelSpec, Option, Value

BUILT_FOR_REAL = 15_000_000
"""Parameters. A larger network differs from its smaller relatives in its table only."""
NEVER = (float("inf"), float("nan"), None, "magic", [], -1e9)

every_model = pytest.mark.parametrize("spec", zoo.specs().values(), ids=zoo.specs())
EVERY_OPTION = [(spec, name) for spec in zoo.specs().values() for name in spec.options]
# What one option does in one family is seen in the first of its models.
ONCE = {(family(spec), name): (spec, name) for spec, name in reversed(EVERY_OPTION)}
every_option = pytest.mark.parametrize(
    ("spec", "name"), EVERY_OPTION, ids=[f"{spec.name}-{name}" for spec, name in EVERY_OPTION]
)


def on_meta(spec: ModelSpec, classes: int | None = None, **options: Value) -> torch.nn.Module:
    with torch.device("meta"):
        return spec.build(classes, **options)


def logits_of(network: torch.nn.Module, *shape: int) -> torch.Tensor:
    logits: torch.Tensor = network.eval()(torch.empty(*shape, device="meta"))
    return logits


def smallest(spec: ModelSpec, **options: Value) -> int:
    return spec.smallest_input(spec.with_defaults(options))


def ends(option: Option) -> tuple[Value, ...]:
    """Every choice, both positions of a switch, or the least and the largest number."""
    if isinstance(option.default, bool):
        return (False, True)
    return option.choices or (option.minimum, option.maximum)


def test_every_family_is_in_the_contract_that_keeps_them_apart() -> None:
    project = msgspec.toml.decode((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text("utf-8"))
    contracts = {contract["name"]: contract for contract in project["tool"]["importlinter"]["contracts"]}
    listed = contracts["Architectures do not know each other"]["modules"]
    assert sorted(listed) == sorted({f"pipeline.zoo.{family(spec)}" for spec in zoo.specs().values()})


def test_the_registry_names_its_models() -> None:
    assert all(name == spec.name for name, spec in zoo.specs().items())
    assert zoo.get("mobilenet_v2") is zoo.specs()["mobilenet_v2"]


def test_names_and_aliases_mean_one_model_each() -> None:
    names = [*zoo.specs(), *(alias for spec in zoo.specs().values() for alias in spec.aliases)]
    assert len(names) == len(set(names))
    for spec in zoo.specs().values():
        assert all(zoo.get(alias) is spec for alias in spec.aliases)


@every_model
def test_what_it_says_of_itself(spec: ModelSpec) -> None:
    """A title, a paper, what it brought, and what each option means: all of it goes into tables and ``--help``."""
    assert spec.title
    assert spec.paper
    assert spec.introduced.endswith(".")
    assert "  " not in spec.introduced
    for option in spec.options.values():
        assert option.meaning
        assert option.meaning[-1] not in ".;"


def test_an_option_of_one_name_is_one_option() -> None:
    """One word of the command line: the same type, and words are never mixed with numbers, in every model."""
    for name in {name for _, name in EVERY_OPTION}:
        options = [spec.options[name] for spec in zoo.specs().values() if name in spec.options]
        assert len({type(option.default) for option in options}) == 1, name
        for option in options:
            assert {type(choice) for choice in option.choices} <= {type(option.default)}, name
            if isinstance(option.default, str):
                assert option.choices, f"{name}: words without choices"
            assert not (isinstance(option.default, bool) and option.choices), name


@every_model
def test_logits_of_a_batch(spec: ModelSpec) -> None:
    size = spec.input_size
    assert spec.check_input(size, {}) == size
    network = on_meta(spec)
    assert network.training
    logits = logits_of(network, 2, 3, size, size)
    assert (logits.shape, logits.dtype) == ((2, spec.classes), torch.float32)


@every_model
def test_odd_and_oblong_inputs(spec: ModelSpec) -> None:
    network, least = on_meta(spec, 3), smallest(spec)
    for height, width in ((33, 97), (224, 160), (least, least + 3)):
        if min(height, width) >= least:
            assert logits_of(network, 1, 3, height, width).shape == (1, 3), (height, width)


@every_model
def test_the_smallest_and_the_largest_input(spec: ModelSpec) -> None:
    least = smallest(spec)
    for size in (least, LARGEST_INPUT):
        assert spec.check_input(size, {}) == size
        assert logits_of(on_meta(spec, 2), 1, 3, size, size).shape == (1, 2)
    for size in (least - 1, 0, -32, LARGEST_INPUT + 1):
        with pytest.raises(BadInput, match=f"Input size is {size}; '{spec.name}' takes {least} to {LARGEST_INPUT}"):
            spec.check_input(size, {})


@every_model
def test_numbers_of_networks_small_enough(spec: ModelSpec) -> None:
    """Equal seeds build equal networks, other seeds others; and the logits of noise are finite."""
    count = sum(p.numel() for p in on_meta(spec, 3).parameters())
    if count > BUILT_FOR_REAL:
        pytest.skip(f"{spec.name} has {count:,} parameters")
    networks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        networks.append(spec.build(3))
    state, same, other = (network.state_dict() for network in networks)
    assert all(torch.equal(tensor, same[name]) for name, tensor in state.items())
    assert not all(torch.equal(tensor, other[name]) for name, tensor in state.items())
    side = max(33, smallest(spec))
    with torch.no_grad():
        logits = networks[0].eval()(torch.randn(1, 3, side, side + 4))
    assert logits.shape == (1, 3)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("spec", "name"), ONCE.values(), ids=[f"{spec.name}-{name}" for spec, name in ONCE.values()])
def test_every_end_of_an_option(spec: ModelSpec, name: str) -> None:
    """Each value builds, at the least input that the spec names for it, and no two values build the same network.

    "The same" is the same modules, settings and shapes; nothing is computed.
    """
    option, described = spec.options[name], {}
    for value in ends(option):
        network = on_meta(spec, 2, **{name: value})
        least = smallest(spec, **{name: value})
        assert logits_of(network, 1, 3, least, least).shape == (1, 2)
        described[value] = repr(network) + str([(key, tuple(t.shape)) for key, t in network.state_dict().items()])
    assert option.default in described or option.minimum < option.default < option.maximum  # type: ignore[operator]
    for first, second in itertools.combinations(described, 2):
        assert described[first] != described[second], f"{name} {first} and {second} are the same network"


@every_option
def test_what_an_option_refuses(spec: ModelSpec, name: str) -> None:
    option = spec.options[name]
    for value in _outside(option):
        with pytest.raises(BadInput, match=f"^Option `{name}` is .*(allowed|it takes)"):
            spec.with_defaults({name: value})


def _outside(option: Option) -> Iterator[object]:
    yield from NEVER
    kind = type(option.default)
    if kind is not bool:
        yield True
    if kind is not str:
        yield "1"
    if kind in (int, float) and not option.choices:
        step = 1 if kind is int else 1e-6
        yield option.minimum - step
        yield option.maximum + step


@every_model
def test_what_it_does_not_have_is_refused(spec: ModelSpec) -> None:
    with pytest.raises(BadInput, match=f"Model '{spec.name}' has no option 'magic'. Known: "):
        spec.build(2, magic=1)
    with pytest.raises(BadInput, match="Class count is 0; at least 1 is needed"):
        spec.build(0)


def test_a_whole_number_is_no_fraction() -> None:
    option = Option(3, "layers", 1, 9)
    assert (option.check("depth", 4.0), type(option.check("depth", 4.0))) == (4, int)
    with pytest.raises(BadInput, match=r"Option `depth` is 4.5; it takes a whole number, "):
        option.check("depth", 4.5)


def test_choices_and_switches() -> None:
    groups, kind, bias = Option(3, "groups", choices=(1, 3, 8)), Option("a", "k", choices=("a", "b")), Option(True, "b")
    assert (groups.check("groups", 8.0), kind.check("kind", "b"), bias.check("bias", False)) == (8, "b", False)
    for option, value, allowed in ((groups, 2, "1, 3, 8"), (kind, "c", "a, b")):
        with pytest.raises(BadInput, match=f"Option `x` is {value}; allowed {allowed}"):
            option.check("x", value)
    with pytest.raises(BadInput, match="Option `bias` is 1; it takes an answer, yes or no"):
        bias.check("bias", 1)


def test_the_smallest_input_may_depend_on_the_options() -> None:
    def least(options: Mapping[str, Value]) -> int:
        return 64 if options["deep"] else 8

    spec = ModelSpec("n", "N", "none", "Nothing.", lambda **_: None, least, {"deep": Option(False, "d")})  # type: ignore[arg-type]
    assert spec.check_input(8, {}) == 8
    with pytest.raises(BadInput, match="Input size is 63; 'n' takes 64 to 2048"):
        spec.check_input(63, {"deep": True})


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("mobilenet_v22", " Did you mean 'mobilenet_v2'?"),
        ("vgg16_bn", " Did you mean 'vgg16'?"),  # batch norm is an option; vgg_b is as near by its letters
        ("vgga_lrn", " Did you mean 'vgg_a_lrn'?"),
        ("x", ""),
        ("", ""),
    ],
)
def test_an_unknown_model_names_the_nearest_and_all(text: str, hint: str) -> None:
    with pytest.raises(BadInput) as error:
        zoo.get(text)
    assert str(error.value) == f"Unknown model '{text}'.{hint} Known: {', '.join(sorted(zoo.specs()))}."


def test_what_is_known() -> None:
    assert all(zoo.knows(name) for name in ("mobilenet_v2", "vgg16", "shufflenet"))
    assert not any(zoo.knows(name) for name in ("", "vgg17", "VGG16", "vgg16 "))


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
