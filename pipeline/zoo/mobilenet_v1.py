"""MobileNet V1: depthwise separable convolutions, and two multipliers that trade accuracy for cost.

Paper: Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto, Adam, "MobileNets: Efficient Convolutional Neural
Networks for Mobile Vision Applications", 2017, arXiv:1704.04861. Architecture: table 1. Width multiplier α: §3.3.
Resolution multiplier ρ: §3.4; here it is the input size.

Deviations: the pooling is over whatever the input size leaves, not a fixed 7×7; table 1's stride of 2 in the last
depthwise layer, which would leave 4×4, is the known misprint for 1. Channel counts are rounded to multiples of 8,
which changes nothing at the published widths. ReLU as in the paper (figure 3); the published code clips at 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.zoo.spec import Figure, ModelSpec, Option

if TYPE_CHECKING:
    from torch import nn

STEM = 32
# Table 1, two lines (depthwise, pointwise) at a time: output channels, stride of the depthwise convolution.
UNITS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def build(classes: int, width: float) -> nn.Module:
    """The network for ``classes`` classes at a width multiplier α (§3.3)."""
    from pipeline.zoo.units.depthwise_separable import separable_network

    return separable_network(classes, width, STEM, UNITS)


_TRUNCATED = "The paper cuts the decimals off instead of rounding."
_TABLE_8 = "The paper prints 1.32 M for 1.33 M, and cuts off the decimals of 76.5 M."


def _figure(
    width: float,
    params: int,
    mult_adds: str,
    published_params: str,
    published_mult_adds: str,
    input_size: int | None = None,
    source: str = "",
    explanation: str = "",
) -> Figure:
    return Figure(
        params=params,
        mult_adds=mult_adds,
        options={"width": width},
        input_size=input_size,
        published_params=published_params,
        published_mult_adds=published_mult_adds,
        source=source or ("table 6" if input_size is None else "table 7"),
        explanation=explanation,
    )


SPECS = (
    ModelSpec(
        name="mobilenet_v1",
        title="MobileNet V1",
        paper="arXiv:1704.04861",
        introduced=(
            "Depthwise separable convolutions throughout: filter each channel, then combine channels in 1×1 layers, "
            "which hold 95 % of the work. Two multipliers shrink the network to a budget: α thins every layer "
            "(width), ρ scales the picture (the input size)."
        ),
        builder=build,
        smallest=32,
        options={"width": Option(1.0, "width multiplier α: scales every channel count (§3.3)", 0.1, 4.0)},
        figures=(
            _figure(1.0, 4_231_976, "568.7", "4.2 M", "569 M"),
            _figure(0.75, 2_585_560, "325.4", "2.6 M", "325 M"),
            _figure(0.5, 1_331_592, "149.5", "1.3 M", "149 M"),
            _figure(0.25, 470_072, "41.0", "0.5 M", "41 M"),
            _figure(1.0, 4_231_976, "418.1", "4.2 M", "418 M", 192),
            _figure(1.0, 4_231_976, "290.7", "4.2 M", "290 M", 160, explanation=_TRUNCATED),
            _figure(1.0, 4_231_976, "186.4", "4.2 M", "186 M", 128),
            _figure(0.5, 1_331_592, "76.5", "1.32 M", "76 M", 160, "table 8", _TABLE_8),
            _figure(0.25, 470_072, "13.6", "0.47 M", "14 M", 128, "the published code's table of checkpoints"),
        ),
        aliases=("mobilenet",),
    ),
)
