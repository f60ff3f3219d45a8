"""EffNet's block: its shapes for odd sizes, and its arithmetic against Keras's "same" padding written out."""

import pytest
import torch
from torch.nn import functional

from pipeline.zoo.units.effnet_block import EffNetBlock


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(32, 32, 16, 16), (7, 7, 3, 4), (2, 1, 1, 1), (3, 2, 1, 1), (33, 97, 16, 49)],
)
def test_rows_round_down_and_columns_round_up(height: int, width: int, rows: int, columns: int) -> None:
    block = EffNetBlock(3, 8, 16, 0.3).eval()
    assert block(torch.randn(1, 3, height, width)).shape == (1, 16, rows, columns)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 7)])
def test_step_by_step(height: int, width: int) -> None:
    """Every operation by its definition: shifted sums for the depthwise layers, pairs of rows, every second column."""
    torch.manual_seed(0)
    block = EffNetBlock(3, 4, 8, 0.25).eval()
    state = block.state_dict()

    def activated(x: torch.Tensor) -> torch.Tensor:
        return functional.leaky_relu(x / (1 + 1e-5) ** 0.5, 0.25)  # a fresh batch norm in eval mode

    x = torch.randn(1, 3, height, width)
    y = activated(torch.einsum("nchw,oc->nohw", x, state["pointwise.0.weight"][:, :, 0, 0]))
    left, centre, right = state["along_row.0.weight"][:, 0, 0, :].T[:, None, :, None, None]
    padded = functional.pad(y, (1, 1))
    y = activated(left * padded[..., :-2] + centre * padded[..., 1:-1] + right * padded[..., 2:])
    rows = height // 2
    y = torch.maximum(y[:, :, 0 : 2 * rows : 2], y[:, :, 1 : 2 * rows : 2])
    above, centre, below = state["along_column.0.weight"][:, 0, :, 0].T[:, None, :, None, None]
    padded = functional.pad(y, (0, 0, 1, 1))
    y = activated(above * padded[:, :, :-2] + centre * padded[:, :, 1:-1] + below * padded[:, :, 2:])
    here, next_row = state["widening.0.weight"][..., 0].unbind(2)
    shifted = torch.cat((y[:, :, 1:], torch.zeros_like(y[:, :, :1])), 2)
    pair = torch.einsum("nchw,oc->nohw", y, here) + torch.einsum("nchw,oc->nohw", shifted, next_row)
    assert torch.allclose(block(x), activated(pair[..., ::2]), atol=1e-5)
