"""Products of two tensors, as second-order pooling, global contexts and learned queries have them, in every file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from calibration.quantize import quantize
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from calibration.tensor_keys import WEIGHTED
from edge_apps.chatter import hushed
from edge_apps.runtime.content import Content
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.runtime.runner import open_runner
from pipeline import targets
from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of
from pipeline.graphs.prepare import prepare
from pipeline.metrics.sqnr import sqnr_db

LABELS = ("a", "b", "c", "d")
PREPROCESS = Preprocess(height=32, width=32)


class Gram(nn.Module):
    """Which channels occur together: a product that LiteRT's converter writes as FULLY_CONNECTED."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(64, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x).relu()
        return self.head(torch.einsum("nchw,nkhw->nck", y, y).flatten(1) / 256)


class GlobalContext(nn.Module):
    """One column of weights for all pixels (Cao et al., "GCNet", 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.weigh, self.transform = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 1, 1), nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        weights = self.weigh(y).flatten(2).softmax(2)
        context = torch.matmul(y.flatten(2), weights.transpose(1, 2)).reshape(-1, 16, 1, 1)
        return self.head((y + self.transform(context)).relu().mean((2, 3)))


class ChannelContext(nn.Module):
    """A sum for each channel, expanded to the map again (Mehta and Rastegari, "MobileViTv2", 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.head = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 33, 1), nn.Linear(16, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.mix(self.stem(x)).flatten(2).unsqueeze(2).split([1, 16, 16], 1)
        context = (key * query.softmax(-1)).sum(-1, keepdim=True)
        return self.head((value.relu() * context.expand_as(value)).mean((2, 3)))


class LearnedQuery(nn.Module):
    """Attention of one query that is a parameter, with learned keys and one of zeros; the batch is fixed by ``len``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.query = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, 1, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True, add_bias_kv=True, add_zero_attn=True)
        self.head = nn.Linear(16, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(x).flatten(2).mT
        attended, _ = self.attention(self.query.expand(len(x), -1, -1), tokens, tokens)
        return self.head(attended.squeeze(1))


@pytest.mark.parametrize("name", ["executorch", "tflite"])
@pytest.mark.parametrize("kind", [Gram, GlobalContext, ChannelContext, LearnedQuery])
def test_files_with_products_of_two_tensors(
    kind: type[nn.Module], name: str, calibrated: Callable[..., object], lowered: Callable[..., Path], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = kind().eval().requires_grad_(False)
    coarse = torch.rand(16, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    images = (functional.interpolate(coarse, size=(32, 32), mode="bilinear") * 255).round()
    front = ImageInput(network, PREPROCESS)
    expected = torch.cat([front(image[None]) for image in images]).numpy()

    prepared = prepare(network, PREPROCESS).network
    graph = graph_of(capture_images(ImageInput(prepared, PREPROCESS).eval(), PREPROCESS, 1))
    source = calibrated(prepared, PREPROCESS, images, Recipe())
    pixels = images.permute(0, 2, 3, 1).numpy().astype(np.uint8)

    def answers(path: Path) -> np.ndarray:
        runner = open_runner(Content.read(path))
        try:
            return np.concatenate([runner.run(pixels[i : i + 1]) for i in range(len(pixels))])
        finally:
            runner.close()

    assert sqnr_db(expected, answers(lowered(source, name, "fp32", LABELS, tmp_path))) > 80
    path = lowered(source, name, "int8", LABELS, tmp_path)
    with hushed():
        census = targets.targets()[name].census(Content.read(path))
        simulated, _ = quantize(graph, source.required_ranges, fold_weights=True)  # type: ignore[attr-defined]
    assert (census.integer_layers, census.float_layers) == (sum(n.target in WEIGHTED for n in graph.graph.nodes), 0)
    own = torch.cat([Simulator(simulated)(image[None]) for image in images]).numpy()
    assert sqnr_db(own, answers(path)) > 40
