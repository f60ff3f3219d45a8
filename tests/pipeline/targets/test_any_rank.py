"""Transformers and sequences through every target: linear layers on tokens, attention, windows, 1-d convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.fx import GraphModule
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from calibration.quantize import quantize
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from calibration.tensor_keys import WEIGHTED
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

LABELS = ("a", "b", "c", "d")
PREPROCESS = Preprocess(height=32, width=32)
WIDTH = 32


class Attention(nn.Module):
    """All projections in one linear layer, as timm writes it; ``bias`` is added to the scores."""

    def __init__(self, heads: int = 4, tokens: int | None = None) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.bias = None if tokens is None else nn.Parameter(torch.randn(heads, tokens, tokens))
        with torch.no_grad():
            self.qkv.weight.mul_(4)  # or all tokens are attended alike

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if self.bias is None:
            attended = functional.scaled_dot_product_attention(q, k, v)
        else:
            attended = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + self.bias).softmax(-1) @ v
        return self.proj(attended.transpose(1, 2).reshape(n, t, c))


class Block(nn.Module):
    """Layer norm and attention, layer norm and two layers, each added."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention, self.norms = attention, nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


class VisionTransformer(nn.Module):
    """4 × 4 patches and a class token (Dosovitskiy et al., 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH) * 4)
        self.position = nn.Parameter(torch.randn(1, 17, WIDTH))
        self.blocks = nn.Sequential(Block(Attention()), Block(Attention()))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Encoder(nn.Module):
    """torch's own encoder, tokens in front."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 8, 8)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.patch(x).flatten(2).permute(2, 0, 1)).mean(0))


class NormOfChannels(nn.LayerNorm):
    """Layer norm over the channels of a map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """Depthwise convolution, layer norm, two linear layers on pixels, layer scale (Liu et al., 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.down(functional.gelu(self.up(y))) * self.scale).permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    """Two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 4, 4), NormOfChannels(16), ConvNextBlock(16))
        self.stage = nn.Sequential(NormOfChannels(16), nn.Conv2d(16, WIDTH, 2, 2), ConvNextBlock(WIDTH))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.stage(self.stem(x)).mean((2, 3))))


class MobileVit(nn.Module):
    """Pixels of the same place in all 2 × 2 patches attend to each other (Mehta and Rastegari, 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU(), nn.Conv2d(16, WIDTH, 1))
        self.transformer = nn.Sequential(Block(Attention()), nn.LayerNorm(WIDTH))
        self.fuse, self.head = nn.Conv2d(2 * WIDTH, 16, 3, padding=1), nn.Linear(16, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        n, c, h, w = x.shape
        y = functional.unfold(x, 2, stride=2).reshape(n, c, 4, -1).permute(0, 2, 3, 1).reshape(n * 4, -1, c)
        y = self.transformer(y).reshape(n, 4, -1, c).permute(0, 3, 1, 2).reshape(n, c * 4, -1)
        y = functional.fold(y, (h, w), 2, stride=2)
        return self.head(functional.silu(self.fuse(torch.cat([x, y], 1))).mean((2, 3)))


class Windows(nn.Module):
    """Attention in windows of 4 × 4, shifted (Liu et al., 2021), then patch merging."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, WIDTH, 4, 4), Block(Attention(tokens=16))
        self.merge, self.head = nn.Linear(4 * WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.roll(self.stem(x).permute(0, 2, 3, 1), (-2, -2), (1, 2))
        y = x.view(-1, 2, 4, 2, 4, WIDTH).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, WIDTH)
        y = self.block(y).view(-1, 2, 2, 4, 4, WIDTH).permute(0, 1, 3, 2, 4, 5).reshape(-1, 8, 8, WIDTH)
        y = torch.cat([y[:, 0::2, 0::2], y[:, 1::2, 0::2], y[:, 0::2, 1::2], y[:, 1::2, 1::2]], -1)
        return self.head(self.merge(y).mean((1, 2)))


class Sequence(nn.Module):
    """Nothing but what int8 has: linear layers on pixels, tokens and tokens in front, 1-d convolution and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 8, 8)
        self.pixels, self.up, self.down = nn.Linear(16, 16), nn.Linear(16, WIDTH), nn.Linear(WIDTH, 16)
        self.mix, self.front = nn.Linear(16, 16), nn.Linear(WIDTH, WIDTH)
        self.along = nn.Sequential(
            nn.Conv1d(16, WIDTH, 3, padding=1),
            nn.BatchNorm1d(WIDTH),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(WIDTH, WIDTH, 3, groups=4),
        )
        self.attention, self.head = nn.Conv1d(1, 1, 3, padding=1, bias=False), nn.Linear(WIDTH, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pixels(self.stem(x).permute(0, 2, 3, 1)).relu().flatten(1, 2)
        x = x + self.down(self.up(x).relu())
        x = x.transpose(1, 2) + self.mix(x.transpose(1, 2))
        x = self.along(x)
        x = x * self.attention(x.mean(2).unsqueeze(1)).squeeze(1).sigmoid()[:, :, None]
        return self.head(self.front(x.permute(2, 0, 1)).relu().mean(0))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "sequence": Sequence,
    "vision transformer": VisionTransformer,
    "encoder": Encoder,
    "convnext": ConvNext,
    "mobilevit": MobileVit,
    "windows": Windows,
}
ALWAYS = ["sequence", "vision transformer"]
LONG = [pytest.param(name, marks=pytest.mark.long) for name in NETWORKS if name not in ALWAYS]

ISLANDS_DB = 40
"""Kernels round float32 differently, and then int8 values that lie near the middle of two steps."""


@dataclass(frozen=True)
class Made:
    """A network with fixed weights and its ranges."""

    name: str
    network: nn.Module
    source: Source
    graph: GraphModule

    @property
    def batch(self) -> int:
        """How many images its graph takes."""
        return getattr(self.source.network, "batch", None) or 32

    @property
    def layers(self) -> int:
        return sum(node.target in WEIGHTED for node in self.graph.graph.nodes)

    def mult_adds(self) -> int:
        """Of one image, as torch counts them: two operations each."""
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            self.source.network(torch.zeros(1, 3, 32, 32))
        return counter.get_total_flops() // 2


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    coarse = torch.rand(32, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    return (functional.interpolate(coarse, size=(32, 32), mode="bilinear") * 255).round()


@pytest.fixture(scope="module", params=[*ALWAYS, *LONG])
def made(request: pytest.FixtureRequest, pictures: torch.Tensor, calibrated: Callable[..., Source]) -> Made:
    torch.manual_seed(0)
    network = NETWORKS[request.param]().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    # Logits around 0: their int8 range is then that of the differences between images, not of a constant.
    network.head.bias -= ImageInput(network, PREPROCESS)(pictures).mean(0)
    prepared = prepare(network, PREPROCESS).network
    graph = graph_of(capture_images(ImageInput(prepared, PREPROCESS).eval(), PREPROCESS, prepared.batch))
    return Made(request.param, network, calibrated(prepared, PREPROCESS, pictures, Recipe()), graph)


def answers(path: Path, pictures: torch.Tensor) -> np.ndarray:
    runner = open_runner(Content.read(path))
    try:
        return runner.run(pictures.permute(0, 2, 3, 1).numpy().astype(np.uint8))
    finally:
        runner.close()


@pytest.mark.parametrize("name", ["executorch", "tflite"])
def test_int8_files_are_their_own_graph(
    made: Made, pictures: torch.Tensor, lowered: Callable[..., Path], name: str, tmp_path: Path
) -> None:
    path = lowered(made.source, name, "int8", LABELS, tmp_path)
    with hushed():
        census = targets.targets()[name].census(Content.read(path))
        simulated, _ = quantize(made.graph, made.source.required_ranges, fold_weights=True)
        simulator = Simulator(simulated)
        expected = torch.cat([simulator(part) for part in pictures.split(made.batch)]).numpy()
    assert (census.integer_layers, census.float_layers) == (made.layers, 0)
    assert census.delegation is not None
    assert (census.delegation.share, census.delegation.mult_adds) == (1, made.mult_adds())
    answered = answers(path, pictures)
    if made.name == "sequence":
        assert (census.delegation.partitions, census.delegation.left_out) == (1, {})
        assert np.array_equal(answered, expected)
    else:
        assert sqnr_db(expected, answered) > ISLANDS_DB


@pytest.mark.parametrize("name", ["executorch", "tflite"])
def test_float_files_are_the_network(
    made: Made, pictures: torch.Tensor, lowered: Callable[..., Path], name: str, tmp_path: Path
) -> None:
    path = lowered(made.source, name, "fp32", LABELS, tmp_path)
    with torch.no_grad():
        expected = ImageInput(made.network, PREPROCESS)(pictures).numpy()
    assert sqnr_db(expected, answers(path, pictures)) > 80


@pytest.mark.parametrize("precision", ["int8", pytest.param("fp16", marks=pytest.mark.long)])
def test_core_ml_takes_it(made: Made, lowered: Callable[..., Path], precision: Precision, tmp_path: Path) -> None:
    """With as many layers in int8; beside the softmax of attention, that of the classifier keeps its own name."""
    path = lowered(made.source, "coreml", precision, LABELS, tmp_path)
    with hushed():
        census = targets.targets()["coreml"].census(Content.read(path))
    integer = made.layers if precision == "int8" else 0
    assert (census.integer_layers, census.float_layers) == (integer, made.layers - integer)
