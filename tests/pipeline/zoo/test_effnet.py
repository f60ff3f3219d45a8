"""EffNet against arithmetic by hand on the paper's table of layers."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.zoo.complexity.count import count

SPEC = zoo.get("effnet")


def meta(classes: int | None = None, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return SPEC.build(classes, **options)


def by_hand(side: int, classes: int) -> tuple[int, int]:
    """1×1×c, 1×3 depthwise, pool, 3×1 depthwise, 2×1×2c at half the columns; batch norm after each; a classifier."""
    params, work, inputs = 0, 0, 3
    for inside in (32, 64, 128):
        outputs = 2 * inside
        params += inputs * inside + 3 * inside + 3 * inside + 2 * inside * outputs + 2 * (3 * inside + outputs)
        area = side * side
        work += area * (inputs * inside + 3 * inside)
        work += area // 2 * 3 * inside + area // 4 * 2 * inside * outputs
        side, inputs = side // 2, outputs
    features = inputs * 16
    return params + features * classes + classes, work + features * classes


@pytest.mark.parametrize(("side", "classes"), [(32, 10), (224, 1000), (64, 7)])
def test_costs(side: int, classes: int) -> None:
    cost = count(meta(classes), side, side)
    assert (cost.params, cost.mult_adds) == by_hand(side, classes)


def test_recorded_costs() -> None:
    assert (SPEC.input_size, SPEC.classes) == (32, 10)
    for figure in SPEC.figures:
        side, classes = figure.input_size or 32, figure.classes or 10
        params, work = by_hand(side, classes)
        assert (figure.params, figure.mult_adds) == (params, f"{work / 1e6:.1f}")


def test_a_32_pixel_picture_reaches_the_classifier_as_it_is() -> None:
    """4×4 positions, flattened: what the paper's network has, without any averaging."""
    torch.manual_seed(0)
    network = SPEC.build().eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = network.get_submodule("features")(x)
        logits = network.get_submodule("classifier")(features.flatten(1))
        assert features.shape == (2, 256, 4, 4)
        assert torch.equal(network(x), logits)


def test_every_batch_norm_directly_follows_a_convolution() -> None:
    """So that it folds: the deviation from the common code's order."""
    children = [list(parent.children()) for parent in meta().modules()]
    pairs = [(a, b) for siblings in children for a, b in pairwise(siblings)]
    folded = [b for a, b in pairs if isinstance(a, nn.Conv2d) and isinstance(b, nn.BatchNorm2d)]
    assert len(folded) == sum(isinstance(m, nn.BatchNorm2d) for m in meta().modules()) == 12


def test_options() -> None:
    assert {m.negative_slope for m in meta(slope=0.1).modules() if isinstance(m, nn.LeakyReLU)} == {0.1}
    assert not [m for m in meta(slope=0.0).modules() if isinstance(m, nn.LeakyReLU)], "a ReLU, as XNNPACK knows it"
    inside = [b.get_submodule("pointwise.0").weight.shape[0] for b in meta(bottleneck=4).get_submodule("features")]
    assert inside == [16, 32, 64]
    outside = [b.get_submodule("widening.0").weight.shape[0] for b in meta(width=2).get_submodule("features")]
    assert outside == [128, 256, 512]
