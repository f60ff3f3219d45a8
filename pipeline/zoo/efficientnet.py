"""EfficientNet B0 to B7: depth, width and resolution scaled together.

Paper: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
arXiv:1905.11946. B0: table 1. Compound scaling: §3.3, and ``compound_scaling.py``. Regularisation: §5.2.

B1 to B7 follow the released table of (width, depth, input size), which is not exactly 1.1^φ, 1.2^φ, 1.15^φ.

Deviations: padding is symmetric, where the published TensorFlow code pads strided layers at the far edge only. That
code has batch-norm eps 1e-3 and momentum 0.99 everywhere; the defaults here are those that torchvision's weights of
each model need (1e-5 up to B4, 1e-3 from B5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.zoo.spec import Figure, ModelSpec, Option

if TYPE_CHECKING:
    from torch import nn

# Table 1: kernel, stride of the first, output channels, repeats. The first stage expands nothing.
STAGES = (
    (3, 1, 16, 1),
    (3, 2, 24, 2),
    (5, 2, 40, 2),
    (3, 2, 80, 3),
    (5, 1, 112, 3),
    (5, 2, 192, 4),
    (3, 1, 320, 1),
)
STEM, LAST = 32, 1280


def build(
    classes: int,
    width: float,
    depth: float,
    expansion: int,
    se_ratio: float,
    dropout: float,
    stochastic_depth: float,
    eps: float,
    batch_norm_momentum: float,
) -> nn.Module:
    """The network for ``classes`` classes: B0 with ``width`` times the channels and ``depth`` times the units (§3.2).

    The branch of unit l of L, counted from 0, is dropped in training with probability ``stochastic_depth`` · l / L, as
    the authors' code does it.
    """
    from torch import nn

    from pipeline.zoo.units.activations import SiLU
    from pipeline.zoo.units.blocks import ConvBatchNorm, FeatureClassifier, initialise, make_divisible
    from pipeline.zoo.units.mbconv import MBConv

    repeats = [math.ceil(base * depth) for *_, base in STAGES]
    step = stochastic_depth / sum(repeats)
    channels = make_divisible(STEM * width)
    features: list[nn.Module] = [ConvBatchNorm(3, channels, stride=2, activation=SiLU)]
    placed = 0
    for stage, ((kernel, first_stride, base, _), count) in enumerate(zip(STAGES, repeats, strict=True)):
        outputs = make_divisible(base * width)
        units: list[nn.Module] = []
        for repeat in range(count):
            stride = first_stride if repeat == 0 else 1
            wider = 1 if stage == 0 else expansion
            units.append(MBConv(channels, outputs, kernel, stride, wider, se_ratio, step * placed))
            channels = outputs
            placed += 1
        features.append(nn.Sequential(*units))
    last = make_divisible(LAST * width)
    features.append(ConvBatchNorm(channels, last, kernel=1, activation=SiLU))
    head = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))
    network = initialise(FeatureClassifier(nn.Sequential(*features), head))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = eps, batch_norm_momentum
    return network


@dataclass(frozen=True)
class _Member:
    """A line of the released table, and what the paper and the table of exact counts say of it."""

    width: float
    depth: float
    input_size: int
    dropout: float
    params: int
    mult_adds: str
    published_params: str
    published_mult_adds: str
    explanation: str = ""


_UNEXPLAINED = (
    "The paper's table 2 prints fewer FLOPs than its released table of width, depth and input size counts to; it does "
    "not say how it counted."
)
_B2 = "The released table of width and depth counts to 9,109,994 parameters; the paper prints 9.2 M."

MEMBERS = (
    _Member(1.0, 1.0, 224, 0.2, 5_288_548, "386", "5.3 M", "0.39 B"),
    _Member(1.0, 1.1, 240, 0.2, 7_794_184, "687", "7.8 M", "0.70 B", "0.687 B printed as 0.70 B."),
    _Member(1.1, 1.2, 260, 0.3, 9_109_994, "994", "9.2 M", "1.0 B", _B2),
    _Member(1.2, 1.4, 300, 0.3, 12_233_232, "1,827", "12 M", "1.8 B"),
    _Member(1.4, 1.8, 380, 0.4, 19_341_616, "4,394", "19 M", "4.2 B", _UNEXPLAINED),
    _Member(1.6, 2.2, 456, 0.4, 30_389_784, "10,266", "30 M", "9.9 B", _UNEXPLAINED),
    _Member(1.8, 2.6, 528, 0.5, 43_040_704, "19,068", "43 M", "19 B"),
    _Member(2.0, 3.1, 600, 0.5, 66_347_960, "37,746", "66 M", "37 B", _UNEXPLAINED),
)
# From here on, torchvision's weights were trained with the published code's batch-norm settings.
FIRST_WITH_PUBLISHED_BATCH_NORM = 5


def _spec(number: int, member: _Member) -> ModelSpec:
    published = number >= FIRST_WITH_PUBLISHED_BATCH_NORM
    figures = [
        Figure(
            params=member.params,
            mult_adds=member.mult_adds,
            published_params=member.published_params,
            published_mult_adds=member.published_mult_adds,
            source="table 2",
            explanation=member.explanation,
        )
    ]
    if number == 0:
        figures.append(
            Figure(params=4_020_358, classes=10, published_params="4.0 M", source="this project's source documents")
        )
    return ModelSpec(
        name=f"efficientnet_b{number}",
        title=f"EfficientNet-B{number}",
        paper="arXiv:1905.11946",
        introduced=(
            "Compound scaling: depth, width and input resolution grow together, by constants found once on the "
            "smallest network. That network, B0, is MobileNetV2's inverted residuals with squeeze-and-excitation."
        ),
        builder=build,
        smallest=32,
        options={
            "width": Option(member.width, "width coefficient: scales every channel count (§3.2)", 0.1, 4.0),
            "depth": Option(member.depth, "depth coefficient: scales the number of units of a stage (§3.2)", 0.1, 4.0),
            "expansion": Option(6, "expansion factor of every stage but the first (table 1)", 1, 12),
            "se_ratio": Option(
                0.25,
                "squeeze and excitation: its width as a share of a unit's input channels (published code)",
                0.01,
                1.0,
            ),
            "dropout": Option(member.dropout, "dropout before the classifier, in training (§5.2)", 0.0, 0.9),
            "stochastic_depth": Option(
                0.2, "stochastic depth in training: unit l of L drops its branch so often times l / L (§5.2)", 0.0, 0.9
            ),
            "eps": Option(1e-3 if published else 1e-5, "batch norm: added to the variance", 1e-8, 0.1),
            "batch_norm_momentum": Option(
                0.01 if published else 0.1, "batch norm: weight of the newest batch in the statistics (§5.2)", 1e-4, 1.0
            ),
        },
        figures=tuple(figures),
        aliases=(f"efficientnet-b{number}", *(("efficientnet",) if number == 0 else ())),
        input_size=member.input_size,
    )


SPECS = tuple(_spec(number, member) for number, member in enumerate(MEMBERS))
