"""VGG against its paper and against torchvision's."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.errors import BadInput
from pipeline.zoo.complexity.count import count
from pipeline.zoo.units.normalisation import LocalResponseNorm

TORCHVISION = {"vgg_a": "vgg11", "vgg_b": "vgg13", "vgg_d": "vgg16", "vgg_e": "vgg19"}
TABLE_1 = {  # written as the paper's columns: "3-64" is conv3-64
    "vgg_a": "3-64 M 3-128 M 3-256 3-256 M 3-512 3-512 M 3-512 3-512 M",
    "vgg_a_lrn": "3-64 LRN M 3-128 M 3-256 3-256 M 3-512 3-512 M 3-512 3-512 M",
    "vgg_b": "3-64 3-64 M 3-128 3-128 M 3-256 3-256 M 3-512 3-512 M 3-512 3-512 M",
    "vgg_c": "3-64 3-64 M 3-128 3-128 M 3-256 3-256 1-256 M 3-512 3-512 1-512 M 3-512 3-512 1-512 M",
    "vgg_d": "3-64 3-64 M 3-128 3-128 M 3-256 3-256 3-256 M 3-512 3-512 3-512 M 3-512 3-512 3-512 M",
    "vgg_e": "3-64 3-64 M 3-128 3-128 M 3-256 3-256 3-256 3-256 M 3-512 3-512 3-512 3-512 M 3-512 3-512 3-512 3-512 M",
}


def meta(name: str, classes: int = 1000, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return zoo.get(name).build(classes, **options)


@pytest.mark.parametrize(
    ("name", "params", "millions"),
    [
        ("vgg_a", 132_863_336, 7_609.1),
        ("vgg_a_lrn", 132_863_336, 7_609.1),
        ("vgg_b", 133_047_848, 11_308.5),
        # B and the three 1×1 convolutions of table 1 with their biases
        (
            "vgg_c",
            133_047_848 + 256 * 257 + 2 * 512 * 513,
            11_308.5 + (56**2 * 256**2 + (28**2 + 14**2) * 512**2) / 1e6,
        ),
        ("vgg_d", 138_357_544, 15_470.3),
        ("vgg_e", 143_667_240, 19_632.1),
    ],
)
def test_costs(name: str, params: int, millions: float) -> None:
    cost = count(meta(name), 224, 224)
    assert cost.params == params
    assert cost.mult_adds / 1e6 == pytest.approx(millions, abs=0.1)


def test_the_convolutions_alone_are_the_figure_of_the_mobilenet_paper() -> None:
    """15,300 M to the two places that were printed."""
    cost = count(meta("vgg_d"), 224, 224)
    assert round(sum(layer.mult_adds for layer in cost.layers if layer.kind != "linear") / 1e6) == 15_347


@pytest.mark.parametrize("name", TABLE_1)
def test_the_columns_of_table_1(name: str) -> None:
    words = []
    for module in meta(name).get_submodule("features").children():
        if isinstance(module, nn.Conv2d):
            assert module.padding == (module.kernel_size[0] // 2,) * 2
            words.append(f"{module.kernel_size[0]}-{module.out_channels}")
        elif isinstance(module, nn.MaxPool2d):
            assert (module.kernel_size, module.stride) == (2, 2)
            words.append("M")
        elif isinstance(module, LocalResponseNorm):
            words.append("LRN")
    assert " ".join(words) == TABLE_1[name]
    layers = [layer.output for layer in count(meta(name), 224, 224).layers]
    assert layers[-3:] == [(4096,), (4096,), (1000,)]


def test_three_small_layers_cost_less_than_one_large_one_and_see_as_far() -> None:
    """§2.3: on C channels 27C² weights against 49C², 81 % more, for the same 7×7 field; counted, and seen."""
    channels = 512
    last = [m for m in meta("vgg_d").modules() if isinstance(m, nn.Conv2d)][-3:]
    with torch.device("meta"):
        large = nn.Conv2d(channels, channels, 7, padding=3)
    stack = sum(layer.weight.numel() for layer in last)
    assert stack == 27 * channels**2
    assert large.weight.numel() == 49 * channels**2
    assert round(large.weight.numel() / stack - 1, 2) == 0.81
    small = [nn.Conv2d(2, 2, layer.kernel_size, padding=layer.padding) for layer in last]
    assert field(nn.Sequential(*small)) == field(nn.Conv2d(2, 2, 7, padding=3)) == (7, 7)


def field(layers: nn.Module) -> tuple[int, int]:
    """Height and width of what one output position depends on."""
    x = torch.rand(1, 2, 15, 15, requires_grad=True)
    (seen,) = torch.autograd.grad(layers(x)[0, 0, 7, 7], x)
    rows, columns = seen.abs().sum((0, 1)).nonzero().unbind(1)
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("name", "theirs"), TORCHVISION.items())
def test_torchvisions_state_dict_fits_key_by_key(
    torchvision_models: ModuleType, name: str, theirs: str, batch_norm: bool
) -> None:
    with torch.device("meta"):
        other = getattr(torchvision_models, theirs + "_bn" * batch_norm)(init_weights=False)
    ours = meta(name, batch_norm=batch_norm)
    shapes = [[(key, t.shape) for key, t in network.state_dict().items()] for network in (ours, other)]
    assert shapes[0] == shapes[1]
    assert zoo.get(theirs) is zoo.get(name)
    eps = [[m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)] for network in (ours, other)]
    assert eps[0] == eps[1]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_torchvisions_features_in_miniature(torchvision_models: ModuleType, batch_norm: bool) -> None:
    """An eighth of the channels, the same weights: equal maps."""
    channels = [8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M"]
    theirs = torchvision_models.vgg.make_layers(channels, batch_norm=batch_norm).eval()
    torch.manual_seed(0)
    ours = zoo.get("vgg16").build(2, width=0.125, grid=1, batch_norm=batch_norm).eval().get_submodule("features")
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = ours(x)
        assert torch.equal(maps, theirs(x))
    assert maps.shape == (2, 64, 2, 3)
    assert maps.std() > 0.01


def test_the_classifier_is_torchvisions(torchvision_models: ModuleType) -> None:
    with torch.device("meta"):
        theirs = torchvision_models.vgg11(init_weights=False, dropout=0.25).classifier
    ours = meta("vgg_a", dropout=0.25).get_submodule("classifier")
    layers = [[(type(m), getattr(m, "p", None)) for m in classifier.children()] for classifier in (ours, theirs)]
    assert layers[0] == layers[1]


def test_a_small_task_takes_small_pictures() -> None:
    spec = zoo.get("vgg_a")
    assert spec.check_input(32, {"grid": 1}) == 32
    network = meta("vgg_a", 10, grid=1, width=0.25)
    assert count(network, 32, 32).layers[-3].output == (1024,)
    for grid, size in ((1, 31), (7, 223), (2, 63)):
        with pytest.raises(BadInput, match=f"takes {size + 1} to 2048"):
            spec.check_input(size, {"grid": grid})


def test_response_normalisation_is_alexnets() -> None:
    layer = next(
        m for m in zoo.get("vgg_a_lrn").build(2, width=0.1, grid=1).modules() if isinstance(m, LocalResponseNorm)
    )
    x = 50 * torch.rand(1, 8, 4, 4)
    assert torch.allclose(layer(x), nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)(x), rtol=1e-5)
