"""FD-MobileNet against its paper."""

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.zoo.complexity.count import count

SPEC = zoo.get("fd_mobilenet")


def meta(**options: float) -> nn.Module:
    with torch.device("meta"):
        return SPEC.build(**options)


@pytest.mark.parametrize(
    ("width", "params", "millions"),
    # Published: 144, 40 and 12 M; parameters as counted by others' implementations of the paper.
    [(1.0, 2_901_288, 144.5), (0.5, 993_928, 40.1), (0.25, 383_160, 12.0)],
)
def test_published_costs(width: float, params: int, millions: float) -> None:
    cost = count(meta(width=width), 224, 224)
    assert cost.params == params
    assert round(cost.mult_adds / 1e6, 1) == millions


@pytest.mark.parametrize(("model", "layers"), [("fd_mobilenet", 12), ("mobilenet_v1", 24)])
def test_layers_until_the_picture_is_32_times_smaller(model: str, layers: int) -> None:
    """The paper's claim: 12 layers, half of MobileNet's."""
    sides: list[int] = []
    with torch.device("meta"):
        network = zoo.get(model).build().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, output: sides.append(output.shape[-1]))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    assert sides.index(7) + 1 == layers
    assert sides == sorted(sides, reverse=True)


def test_channels_of_table_1() -> None:
    pointwise = [m.out_channels for m in meta().modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert pointwise == [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 1024]
