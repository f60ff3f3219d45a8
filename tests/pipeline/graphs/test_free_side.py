"""Images along another axis than the first: the network is captured with batches of one, and no other is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.prepare import prepare

PREPROCESS = Preprocess(height=16, width=16)


class Tokens(nn.Module):
    """torch's own encoder, tokens in front or behind the batch; or only their mean."""

    def __init__(self, layer: nn.Module | None, order: tuple[int, ...]) -> None:
        super().__init__()
        self.patch, self.layer, self.order = nn.Conv2d(3, 16, 4, 4), layer, order
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, 3, 16, 16]`` to ``[N, 3]``."""
        x = self.patch(x).flatten(2).permute(self.order)
        x = x if self.layer is None else self.layer(x)
        return self.head(x.mean(self.order.index(2)))


FRONT, BEHIND = (2, 0, 1), (0, 2, 1)


@pytest.mark.parametrize(
    ("layer", "order", "batch"),
    [
        (lambda: nn.TransformerEncoderLayer(16, 2, 32), FRONT, 1),
        (lambda: nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16)), FRONT, 1),
        (lambda: nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16)), BEHIND, None),
        (lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), BEHIND, None),
        (lambda: None, FRONT, 1),  # the mean over its first axis is rewritten
        (lambda: None, BEHIND, None),
    ],
)
def test_the_same_answers_for_any_number_of_images(layer, order: tuple[int, ...], batch: int | None) -> None:
    torch.manual_seed(0)
    network = Tokens(layer(), order).eval()
    prepared = prepare(network, PREPROCESS).network
    assert prepared.batch == batch
    for count in (1, 2, 5):
        images = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            torch.testing.assert_close(prepared(images), network(images), rtol=1e-4, atol=1e-5)
