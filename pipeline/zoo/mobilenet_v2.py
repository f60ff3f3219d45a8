"""MobileNetV2: inverted residuals with linear bottlenecks.

Paper: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
arXiv:1801.04381. Architecture: table 2. Width multiplier: §5.1; as in the published code the last 1×1 convolution
(1,280 channels) shrinks with no width below 1.

Deviation: the pooling is over whatever the input size leaves, not a fixed 7×7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.zoo.spec import Figure, ModelSpec, Option

if TYPE_CHECKING:
    from torch import nn

# Table 2: expansion t, output channels c, repeats n, stride of the first s.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM, LAST, DROPOUT = 32, 1280, 0.2


def build(classes: int, width: float) -> nn.Module:
    """The network for ``classes`` classes at a width multiplier (§5.1)."""
    from torch import nn

    from pipeline.zoo.units.blocks import ConvBatchNorm, FeatureClassifier, initialise, make_divisible
    from pipeline.zoo.units.inverted_residual import InvertedResidual

    channels = make_divisible(STEM * width)
    units: list[nn.Module] = [ConvBatchNorm(3, channels, stride=2)]
    for expansion, base, repeats, first_stride in STAGES:
        outputs = make_divisible(base * width)
        for repeat in range(repeats):
            units.append(InvertedResidual(channels, outputs, first_stride if repeat == 0 else 1, expansion))
            channels = outputs
    last = make_divisible(LAST * max(1.0, width))
    units.append(ConvBatchNorm(channels, last, kernel=1))
    head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(last, classes))
    return initialise(FeatureClassifier(nn.Sequential(*units), head))


SPECS = (
    ModelSpec(
        name="mobilenet_v2",
        title="MobileNetV2",
        paper="arXiv:1801.04381",
        introduced=(
            "Inverted residuals: units that widen inside and join their shortcuts where they are narrow. Linear "
            "bottlenecks: no activation on the narrow side, where it would destroy information."
        ),
        builder=build,
        smallest=32,
        options={"width": Option(1.0, "width multiplier: scales every channel count (§5.1)", 0.1, 4.0)},
        figures=(
            Figure(
                params=3_504_872,
                mult_adds="300.8",
                published_params="3.4 M",
                published_mult_adds="300 M",
                source="table 4",
                explanation="The paper prints 3.4 M for 3.50 M: its own architecture counts to 3,504,872.",
            ),
            Figure(params=2_236_682, classes=10, published_params="2.2 M", source="this project's source documents"),
            Figure(
                params=1_677_128,
                mult_adds="11.9",
                options={"width": 0.35},
                input_size=96,
                published_mult_adds="12 M",
                source="this project's source documents",
            ),
        ),
    ),
)
