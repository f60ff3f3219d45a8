"""ShuffleNet V1: pointwise group convolutions, and a channel shuffle between them.

Paper: Zhang, Zhou, Lin, Sun, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
CVPR 2018, arXiv:1707.01083. Architecture: table 1. Units: figure 2, in ``units/shuffle.py``. Scale factor: §3.3.
Squeeze-and-excitation on its units: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, table 3.

Deviations: the pooling is over whatever the input size leaves, not a fixed 7×7. The paper scales channels by s and
leaves open what becomes of counts that do not divide: here a stage's channels are rounded to a multiple of 4·groups,
so that its bottleneck splits into groups, and the first layer's to a multiple of groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.zoo.spec import Figure, ModelSpec, Option

if TYPE_CHECKING:
    from torch import nn

STEM = 24
# Table 1: output channels of stage 2 by groups, chosen so that all cost the same; each later stage doubles them.
STAGE_2 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
REPEATS = (4, 8, 4)


def build(classes: int, groups: int, width: float, bottleneck: float, shuffle: bool, reduction: int) -> nn.Module:
    """The network for ``classes`` classes (table 1), at a scale factor (§3.3)."""
    from torch import nn

    from pipeline.zoo.units.blocks import ConvBatchNorm, FeatureClassifier, initialise, make_divisible
    from pipeline.zoo.units.shuffle import ShuffleUnit

    channels = make_divisible(STEM * width, groups)
    units: list[nn.Module] = [ConvBatchNorm(3, channels, stride=2, activation=nn.ReLU), nn.MaxPool2d(3, 2, padding=1)]
    for stage, repeats in enumerate(REPEATS):
        outputs = make_divisible(STAGE_2[groups] * 2**stage * width, 4 * groups)
        for repeat in range(repeats):
            first = stage == 0 and repeat == 0
            units.append(
                ShuffleUnit(
                    channels,
                    outputs,
                    make_divisible(outputs / bottleneck, groups),
                    stride=2 if repeat == 0 else 1,
                    groups=groups,
                    # The first layer's channels are few: grouping them saves nothing (§3.3).
                    first_groups=1 if first else groups,
                    shuffle=shuffle,
                    reduction=reduction,
                )
            )
            channels = outputs
    head = nn.Sequential(nn.Linear(channels, classes))
    return initialise(FeatureClassifier(nn.Sequential(*units), head))


_CONVOLUTIONS = "Table 1 counts the convolutions alone, without the classifier."
_FIRST_LAYER = "The authors' code leaves the first layer at 24 channels at 1.5×; the paper scales every channel count."
_ROUNDING = "The paper does not say how it rounds channels at 0.25×; a first layer of 12 instead of 6 gives 13.3 M."
_AUTHORS = "the authors' code, table of results"


def _figure(
    groups: int,
    width: float,
    params: int,
    mult_adds: str,
    published_params: str,
    published_mult_adds: str,
    source: str,
    explanation: str = "",
) -> Figure:
    return Figure(
        params=params,
        mult_adds=mult_adds,
        options={"groups": groups, "width": width},
        published_params=published_params,
        published_mult_adds=published_mult_adds,
        source=source,
        explanation=explanation,
    )


SPECS = (
    ModelSpec(
        name="shufflenet_v1",
        title="ShuffleNet V1",
        paper="arXiv:1707.01083",
        introduced=(
            "Group convolutions in the 1×1 layers, where small networks spend most of their work, and a channel "
            "shuffle between them, without which no group would ever hear of another. The saving goes into more "
            "channels at the same cost."
        ),
        builder=build,
        smallest=32,
        options={
            "groups": Option(
                3,
                "groups g of the 1×1 convolutions (table 1); 1 is the plain depthwise bottleneck of figure 2 (a)",
                choices=tuple(STAGE_2),
            ),
            "width": Option(1.0, "scale factor s: multiplies every channel count (§3.3)", 0.1, 4.0),
            "bottleneck": Option(4.0, "how many times fewer channels a unit has inside than at its end (§3.2)", 1, 8),
            "shuffle": Option(True, "the channel shuffle; without it groups never mix (table 3)"),
            "reduction": Option(
                0,
                "squeeze-and-excitation in every unit: this reduction ratio (Hu et al., 2018), or 0 for none",
                0,
                64,
            ),
        },
        figures=(
            _figure(1, 1.0, 1_531_936, "143.1", "", "143 M", "table 1"),
            _figure(2, 1.0, 1_733_848, "140.8", "", "140 M", "table 1", _CONVOLUTIONS),
            _figure(3, 1.0, 1_865_728, "137.5", "", "137 M", "table 1"),
            _figure(4, 1.0, 1_968_344, "134.3", "", "133 M", "table 1", _CONVOLUTIONS),
            _figure(8, 1.0, 2_434_768, "138.4", "", "137 M", "table 1", _CONVOLUTIONS),
            _figure(
                3,
                2.0,
                5_450_776,
                "524.0",
                "5.4 M",
                "524 M",
                _AUTHORS,
                "The authors' code has a classifier without bias: 1,000 parameters fewer.",
            ),
            _figure(8, 2.0, 6_522_232, "521.9", "6.5 M", "522 M", _AUTHORS),
            _figure(3, 1.5, 3_443_212, "299.6", "3.4 M", "292 M", _AUTHORS, _FIRST_LAYER),
            _figure(8, 1.5, 4_272_400, "302.6", "4.3 M", "290 M", _AUTHORS, _FIRST_LAYER),
            _figure(3, 0.5, 718_324, "37.6", "0.7 M", "38 M", _AUTHORS),
            _figure(8, 0.5, 1_011_448, "40.5", "1.0 M", "40 M", _AUTHORS),
            _figure(3, 0.25, 305_902, "11.0", "", "13 M", "table 2", _ROUNDING),
            Figure(
                params=2_484_533,
                mult_adds="138.1",
                options={"reduction": 16},
                published_params="2.4 M",
                published_mult_adds="142 M",
                source="Hu et al. (2018), table 3",
                explanation="That table starts from 1.8 M and 140 M without squeeze-and-excitation.",
            ),
        ),
        aliases=("shufflenet",),
    ),
)
