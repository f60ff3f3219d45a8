"""ShuffleNet V1 against its paper, its authors' code and arithmetic by hand."""

from typing import Any

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.zoo.complexity.count import count
from pipeline.zoo.units.shuffle import ChannelShuffle, ShuffleUnit

SPEC = zoo.get("shufflenet_v1")
GROUPS = (1, 2, 3, 4, 8)


def meta(**options: Any) -> nn.Module:
    with torch.device("meta"):
        return SPEC.build(**options)


def by_hand(groups: int, stage_2: int) -> tuple[int, int]:
    """Parameters and mult-adds at width 1 and 224×224, from table 1 and figure 2 alone."""
    params, work = 27 * 24 + 2 * 24, 27 * 24 * 112**2
    inputs = 24
    for stage, repeats in enumerate((4, 8, 4)):
        outputs, side = stage_2 * 2**stage, 28 // 2**stage
        inside = outputs // 4
        for unit in range(repeats):
            branch = outputs - inputs if unit == 0 else outputs
            before = 2 * side if unit == 0 else side
            first = inputs * inside // (1 if stage == 0 and unit == 0 else groups)
            last = inside * branch // groups
            params += first + 9 * inside + last + 2 * (inside + inside + branch)
            work += first * before**2 + (9 * inside + last) * side**2
            inputs = outputs
    return params + inputs * 1000 + 1000, work + inputs * 1000


@pytest.mark.parametrize(
    ("groups", "stage_2", "params", "table_1"),
    [
        (1, 144, 1_531_936, 143),
        (2, 200, 1_733_848, 140),
        (3, 240, 1_865_728, 137),
        (4, 272, 1_968_344, 133),
        (8, 384, 2_434_768, 137),
    ],
)
def test_costs_by_groups(groups: int, stage_2: int, params: int, table_1: int) -> None:
    """Table 1 prints the convolutions' mult-adds; with the classifier g = 3 has 137.5 M."""
    cost = count(meta(groups=groups), 224, 224)
    assert (cost.params, cost.mult_adds) == by_hand(groups, stage_2)
    assert cost.params == params
    classifier = 4 * stage_2 * 1000
    assert round((cost.mult_adds - classifier) / 1e6) == table_1


def test_the_default_is_one_times_three_groups() -> None:
    cost = count(meta(), 224, 224)
    assert (cost.params, round(cost.mult_adds / 1e6, 1)) == (1_865_728, 137.5)


@pytest.mark.parametrize(
    ("groups", "width", "millions"), [(3, 2.0, 524), (8, 2.0, 522), (3, 0.5, 38), (8, 0.5, 40), (3, 1.0, 137)]
)
def test_costs_of_the_authors_code_by_width(groups: int, width: float, millions: int) -> None:
    assert round(count(meta(groups=groups, width=width), 224, 224).mult_adds / 1e6) == millions


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("width", [0.1, 0.25, 0.3, 0.5, 0.77, 1.5, 2.0, 3.3, 4.0])
def test_any_width_divides_into_its_groups(groups: int, width: float) -> None:
    network = meta(groups=groups, width=width).eval()
    stages = [unit for unit in network.get_submodule("features").children() if isinstance(unit, ShuffleUnit)]
    assert len(stages) == 16
    assert network(torch.empty(2, 3, 40, 64, device="meta")).shape == (2, 1000)


def test_no_groups_in_the_first_pointwise_layer_of_stage_2_and_nowhere_else() -> None:
    pointwise = [m for m in meta(groups=4).modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert [m.groups for m in pointwise] == [1] + [4] * 31


def test_the_three_units_of_figure_2() -> None:
    """(a) groups 1: nothing to shuffle. (b) a shuffle after the first layer. (c) pooled shortcut, joined."""
    plain, shuffled = ShuffleUnit(24, 24, 6, 1, groups=1), ShuffleUnit(24, 24, 6, 1, groups=3)
    joined = ShuffleUnit(24, 48, 12, 2, groups=3)
    assert not any(isinstance(m, ChannelShuffle) for m in plain.modules())
    assert isinstance(shuffled.branch[1], ChannelShuffle)
    assert shuffled.pool is None
    torch.manual_seed(0)
    x = torch.rand(2, 24, 9, 9)
    y = joined.eval()(x)
    assert y.shape == (2, 48, 5, 5)
    assert torch.allclose(y[:, :24], nn.AvgPool2d(3, 2, 1)(x), atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_unit_is_relu_after_the_junction(stride: int) -> None:
    """Against figure 2 written with torch's own shuffle and pool, on an input that is not negative."""
    torch.manual_seed(0)
    unit = ShuffleUnit(24, 24 * stride, 6 * stride, stride, groups=3).eval()
    x = torch.rand(2, 24, 8, 8)
    first, _, depthwise, last = unit.branch
    branch = last(depthwise(nn.ChannelShuffle(3)(first(x))))
    expected = torch.cat((nn.AvgPool2d(3, 2, 1)(x), branch), 1) if stride == 2 else x + branch
    assert torch.allclose(unit(x), expected.relu(), atol=1e-6)


@pytest.mark.parametrize(("bottleneck", "inside"), [(1, [240, 480, 960]), (4, [60, 120, 240]), (7, [33, 69, 138])])
def test_the_bottleneck_is_a_share_of_a_units_output(bottleneck: int, inside: list[int]) -> None:
    units = [unit for unit in meta(bottleneck=bottleneck).modules() if isinstance(unit, ShuffleUnit)]
    assert [unit.branch[0][0].out_channels for unit in units] == [inside[0]] * 4 + [inside[1]] * 8 + [inside[2]] * 4


def test_without_shuffle_groups_never_mix() -> None:
    """Table 3's control: an output group depends on its own input group alone; with the shuffle on all."""
    torch.manual_seed(0)
    for shuffle, reached in ((False, {0}), (True, {0, 1, 2})):
        unit = ShuffleUnit(36, 36, 9, 1, groups=3, shuffle=shuffle).eval()
        x = torch.rand(1, 36, 4, 4)
        changed = x.clone()
        changed[:, :12] += 1
        difference = (unit.branch(x) - unit.branch(changed)).abs().amax((0, 2, 3)).view(3, 12).amax(1)
        assert {group for group in range(3) if difference[group] > 1e-6} == reached


def test_squeeze_and_excitation_costs_what_its_two_layers_cost() -> None:
    """Hu et al.: 2·C²/r weights a unit, here with biases; C is the branch's, so less in the three first units."""
    branches = [216, *[240] * 3, 240, *[480] * 7, 480, *[960] * 3]
    added = sum(2 * c * (c // 16) + c + c // 16 for c in branches)
    assert count(meta(reduction=16), 224, 224).params == 1_865_728 + added == 2_484_533
    with torch.device("meta"):
        assert SPEC.build(10, reduction=64, width=0.1).eval()(torch.empty(1, 3, 32, 32)).shape == (1, 10)
