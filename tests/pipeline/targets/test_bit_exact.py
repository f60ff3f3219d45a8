"""Every kind of operator in the zoo: whole on the delegate, and an int8 file equals its simulation to the bit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from calibration.quantize import quantize
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from edge_apps.chatter import hushed
from edge_apps.runtime.content import Content
from edge_apps.runtime.precisions import Precision
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.runtime.runner import open_runner
from pipeline import targets
from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of
from pipeline.graphs.prepare import prepare
from pipeline.metrics.sqnr import sqnr_db
from pipeline.targets.base import Source
from pipeline.zoo.units.activations import SiLU
from pipeline.zoo.units.normalisation import LocalResponseNorm
from pipeline.zoo.units.pooling import AveragePool
from pipeline.zoo.units.shuffle import ChannelShuffle
from pipeline.zoo.units.squeeze_excitation import SqueezeExcitation

SIZE, LABELS = 33, ("a", "b", "c")
PREPROCESS = Preprocess(height=SIZE, width=SIZE)


class Join(nn.Module):
    """The branches' outputs side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Shortcut(nn.Module):
    """ReLU(x + branch(x))."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.branch(x))


class Head(nn.Module):
    """Mean over the map, then logits."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.last = nn.Linear(channels, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x.mean((2, 3), keepdim=True).flatten(1))


def conv(inputs: int, outputs: int, kernel: int = 1, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def dead(layer: nn.Conv2d) -> nn.Sequential:
    """Nothing passes its ReLU."""
    nn.init.constant_(layer.bias, -1000.0)
    return nn.Sequential(layer, nn.ReLU())


def nearly_dead(channels: int) -> nn.Sequential:
    """What passes is a millionth."""
    layer = conv(channels, channels)
    with torch.no_grad():
        layer.weight.mul_(1e-6)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.ReLU())


def gated(channels: int) -> SqueezeExcitation:
    """A gate whose squeeze is dead: a constant."""
    gate = SqueezeExcitation(channels, 4)
    nn.init.constant_(next(layer for layer in gate.modules() if isinstance(layer, nn.Conv2d)).bias, -1000.0)
    return gate


NETWORKS = {
    "residual": lambda: nn.Sequential(
        conv(3, 12, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Shortcut(conv(12, 12, 3)), Head(12)
    ),
    "inception": lambda: nn.Sequential(
        conv(3, 12, 7, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        LocalResponseNorm(12, 5, 1e-2),
        Join(conv(12, 8), nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(12, 8)), AveragePool(12, 3, 1, 1)),
        nn.MaxPool2d(3, 2, ceil_mode=True),  # of negative values too, and over the edge
        Head(28),
    ),
    "attention": lambda: nn.Sequential(
        conv(3, 16, 3, stride=2),
        SiLU(),
        conv(16, 16, 5, groups=16),
        SiLU(),
        SqueezeExcitation(16, 4, SiLU),
        Join(nn.Sigmoid(), nn.Identity()),
        Head(32),
    ),
    "shuffle": lambda: nn.Sequential(
        conv(3, 12, 3, stride=2),
        nn.ReLU(),
        conv(12, 12, groups=3),
        ChannelShuffle(3),
        conv(12, 12, 3, groups=12),
        Head(12),
    ),
    "leaky": lambda: nn.Sequential(
        conv(3, 12, 3, stride=2),
        nn.LeakyReLU(0.3),
        nn.MaxPool2d((2, 1), (2, 1)),
        conv(12, 12),
        nn.LeakyReLU(),
        Head(12),
    ),
    "dead branch": lambda: nn.Sequential(conv(3, 12, 3, stride=2), nn.ReLU(), Shortcut(dead(conv(12, 12))), Head(12)),
    "dead gate": lambda: nn.Sequential(conv(3, 12, 3, stride=2), nn.ReLU(), gated(12), Head(12)),
    "nearly dead branch": lambda: nn.Sequential(
        conv(3, 12, 3, stride=2), nn.ReLU(), Shortcut(nearly_dead(12)), Head(12)
    ),
}


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    coarse = torch.rand(32, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    return (nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear") * 255).round()


@pytest.fixture(scope="module", params=NETWORKS)
def source(request: pytest.FixtureRequest, pictures: torch.Tensor, calibrated: Callable[..., Source]) -> Source:
    torch.manual_seed(0)
    network = prepare(NETWORKS[request.param]().eval().requires_grad_(False), PREPROCESS).network
    return calibrated(network, PREPROCESS, pictures, Recipe())


def answers(path: Path, pictures: torch.Tensor) -> np.ndarray:
    runner = open_runner(Content.read(path))
    try:
        return runner.run(pictures.permute(0, 2, 3, 1).numpy().astype(np.uint8))
    finally:
        runner.close()


def loads_without_a_delegate(path: Path) -> None:
    """LiteRT's own kernels refuse scales that XNNPACK takes: a sigmoid's, those of a concatenation."""
    open_runner(Content.read(path), xnnpack=False).close()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["executorch", "tflite"])
def test_whole_on_the_delegate_and_equal_to_its_own_graph(
    source: Source,
    pictures: torch.Tensor,
    lowered: Callable[..., Path],
    name: str,
    precision: Precision,
    tmp_path: Path,
) -> None:
    path = lowered(source, name, precision, LABELS, tmp_path)
    with hushed():
        census = targets.targets()[name].census(Content.read(path))
    assert census.delegation is not None
    assert (census.delegation.partitions, census.delegation.share) == (1, 1)
    assert not census.delegation.left_out
    graph = graph_of(capture_images(ImageInput(source.network, PREPROCESS).eval(), PREPROCESS))
    answered = answers(path, pictures)
    if precision == "fp32":
        with torch.no_grad():
            assert sqnr_db(graph(pictures).numpy(), answered) > 90
        return
    with hushed():
        simulated, _ = quantize(graph, source.required_ranges, fold_weights=True)
    assert np.array_equal(answered, Simulator(simulated)(pictures).numpy())
    if name == "tflite":
        loads_without_a_delegate(path)


def test_core_ml_has_the_same_scales(source: Source, lowered: Callable[..., Path], tmp_path: Path) -> None:
    ranges = source.required_ranges
    path = lowered(source, "coreml", "int8", LABELS, tmp_path)
    with hushed():
        census = targets.targets()["coreml"].census(Content.read(path))
    assert census.delegation is None
    assert census.float_layers == 0
    expected = sorted({ranges.qparams(key) for key in ranges.values})
    assert [zero for _, zero in sorted(census.activations)] == [zero for _, zero in expected]
    assert [s for s, _ in sorted(census.activations)] == pytest.approx([s for s, _ in expected], rel=1e-6)


LARGE = Preprocess(height=300, width=300)


@pytest.mark.parametrize("name", ["executorch", "tflite"])
def test_the_mean_of_a_large_even_picture_is_near(
    calibrated: Callable[..., Source], lowered: Callable[..., Path], name: str, tmp_path: Path
) -> None:
    """90,000 equal values, added up one after the other, made these logits wrong by 2e-4."""
    torch.manual_seed(0)
    network = nn.Sequential(conv(3, 8), Head(8)).eval().requires_grad_(False)
    even = torch.tensor([30.0, 90.0, 201.0]).view(1, 3, 1, 1).expand(1, 3, 300, 300)
    source = calibrated(prepare(network, LARGE).network, LARGE, even, Recipe())
    answered = answers(lowered(source, name, "fp32", LABELS, tmp_path), even)
    exact = ImageInput(network, LARGE).double()(even.double()).numpy()
    assert np.abs(answered - exact).max() < 1e-5 * np.abs(exact).max()
