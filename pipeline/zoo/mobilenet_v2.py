"""MobileNetV2: inverted residuals with linear bottlenecks.

Paper: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
arXiv:1801.04381. Architecture: table 2. Width multiplier: §5.1; as in the published code the last 1×1 convolution
(1,280 channels) shrinks with no width below 1.

Squeeze and excitation is not in the paper: it attaches where MnasNet and MobileNetV3 have it, and is off by default.

Deviation: the pooling is over whatever the input size leaves, not a fixed 7×7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.zoo.spec import Figure, ModelSpec, Option

if TYPE_CHECKING:
    from torch import nn

# Table 2: output channels c, repeats n, stride of the first s. The first stage expands nothing.
STAGES = (
    (16, 1, 1),
    (24, 2, 2),
    (32, 3, 2),
    (64, 4, 2),
    (96, 3, 1),
    (160, 3, 2),
    (320, 1, 1),
)
STEM, LAST = 32, 1280


def build(classes: int, width: float, expansion: int, dropout: float, reduction: int) -> nn.Module:
    """The network for ``classes`` classes at a width multiplier (§5.1); ``reduction`` 0 is as published."""
    from torch import nn

    from pipeline.zoo.units.blocks import ConvBatchNorm, FeatureClassifier, initialise, make_divisible
    from pipeline.zoo.units.inverted_residual import InvertedResidual

    channels = make_divisible(STEM * width)
    units: list[nn.Module] = [ConvBatchNorm(3, channels, stride=2)]
    for stage, (base, repeats, first_stride) in enumerate(STAGES):
        outputs = make_divisible(base * width)
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            units.append(InvertedResidual(channels, outputs, stride, 1 if stage == 0 else expansion, reduction))
            channels = outputs
    last = make_divisible(LAST * max(1.0, width))
    units.append(ConvBatchNorm(channels, last, kernel=1))
    head = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))
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
        options={
            "width": Option(1.0, "width multiplier: scales every channel count (§5.1)", 0.1, 4.0),
            "expansion": Option(6, "expansion factor t of every stage but the first (table 2)", 1, 12),
            "dropout": Option(0.2, "dropout before the classifier, in training (published code)", 0.0, 0.9),
            "reduction": Option(
                0,
                "squeeze and excitation in every unit, this many times narrower than its wide side; 0 for none",
                0,
                64,
            ),
        },
        figures=(
            Figure(
                params=3_504_872,
                mult_adds="300.8",
                published_params="3.4 M",
                published_mult_adds="300 M",
                source="table 4",
                explanation=(
                    "The paper prints 3.4 M and 300 M; the architecture of its own table 2 counts to 3.50 M and "
                    "300.8 M."
                ),
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
