"""SENet: residual networks with squeeze and excitation.

Paper: Hu, Shen, Albanie, Sun, Wu, "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507 (tables and figures
as numbered in its journal version). Architecture: table 1; the unit: figure 3; reduction ratio: §6.1. ResNeXt's
cardinality and bottleneck width: Xie, Girshick, Dollár, Tu, He, "Aggregated Residual Transformations for Deep Neural
Networks", CVPR 2017, §3.

The stride is where the published cost has it: on the first 1×1 convolution in SE-ResNet-50, on the 3×3 in
SE-ResNeXt-50. Two options are for weights that others trained: ``stem_pool=ceil`` is the authors' Caffe network, which
pads nothing, and with it every ``legacy`` weight of timm; ``rectified=yes`` is timm's legacy SE-ResNet-18.

The squeezed width is channels / reduction, rounded down, at least 1. (timm's newer SE-ResNet-18, of which no weights
are published, rounds it to multiples of 8.)

Deviation: the pooling is over whatever the input size leaves, not a fixed 7×7. Width multiplier: as in ``resnet.py``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.zoo.shared.residual_stages import FIRST_WITH_BOTTLENECKS, REPEATS, STRIDE_MEANING, WIDTH
from pipeline.zoo.spec import Figure, ModelSpec, Option

if TYPE_CHECKING:
    from torch import nn

REDUCTION = Option(16, "how many times narrower squeeze and excitation is inside than its channels (§6.1)", 1, 64)
STEM_POOL = Option(
    "padded",
    "windows of the first pooling: around a padded edge, or from the first pixel over the far edge (Caffe)",
    choices=("padded", "ceil"),
)
RECTIFIED = Option(False, "a ReLU before squeeze and excitation too, as in timm's legacy SE-ResNet-18")
CARDINALITY = Option(32, "ResNeXt: groups of the 3×3 convolution", 1, 64)
BOTTLENECK_WIDTH = Option(4, "ResNeXt: channels of each group in the first stage", 1, 64)
COMMON = {"width": WIDTH, "reduction": REDUCTION, "stem_pool": STEM_POOL}


def build(depth: int, classes: int, width: float, stem_pool: str, **style: Any) -> nn.Module:
    """The network of ``depth`` layers for ``classes`` classes; ``style`` are the fields of the units' ``Style``."""
    from pipeline.zoo.units.blocks import initialise
    from pipeline.zoo.units.residual import BasicUnit, Bottleneck, ResidualNetwork, Style

    unit = BasicUnit if depth < FIRST_WITH_BOTTLENECKS else Bottleneck
    return initialise(ResidualNetwork(unit, REPEATS[depth], classes, width, Style(**style), stem_pool))


def _stride_on(default: str) -> Option:
    return Option(default, STRIDE_MEANING, choices=("1x1", "3x3"))


def _spec(
    name: str, title: str, depth: int, options: dict[str, Option], aliases: tuple[str, ...], *figures: Figure
) -> ModelSpec:
    return ModelSpec(
        name=name,
        title=title,
        paper="arXiv:1709.01507",
        introduced=(
            "Squeeze and excitation: a small network inside each unit looks at the mean of every channel and decides "
            "how much each channel counts. A tenth more parameters, almost no more computation."
        ),
        builder=partial(build, depth),
        smallest=32,
        options={**COMMON, **options},
        figures=figures,
        aliases=aliases,
    )


def _reduced(reduction: int, params: int, published: str) -> Figure:
    rounded_up = "Every count in table 10 is rounded up." if reduction in (4, 8, 32) else ""
    return Figure(
        params=params,
        options={"reduction": reduction},
        published_params=published,
        source="table 10",
        explanation=rounded_up,
    )


SPECS = (
    _spec(
        "se_resnet18",
        "SE-ResNet-18",
        18,
        {"rectified": RECTIFIED},
        ("seresnet18", "se-resnet18", "se-resnet-18"),
        Figure(params=11_778_592, mult_adds="1,814"),
    ),
    _spec(
        "se_resnet50",
        "SE-ResNet-50",
        50,
        {"stride_on": _stride_on("1x1")},
        ("seresnet50", "se-resnet50", "se-resnet-50"),
        Figure(
            params=28_088_024,
            mult_adds="3,860.5",
            published_params="28.1 M",
            published_mult_adds="3.87 B",
            source="tables 2 and 10",
            explanation="3.87 B counts each unit's pooling and scaling too: 11.0 M that are not counted here.",
        ),
        Figure(
            params=28_088_024,
            mult_adds="4,092",
            options={"stride_on": "3x3"},
            explanation="timm's seresnet50. The published cost has the stride on the first 1×1 convolution.",
        ),
        _reduced(2, 45_699_240, "45.7 M"),
        _reduced(4, 35_635_688, "35.7 M"),
        _reduced(8, 30_603_912, "30.7 M"),
        _reduced(32, 26_830_080, "26.9 M"),
    ),
    _spec(
        "se_resnext50_32x4d",
        "SE-ResNeXt-50 32×4d",
        50,
        {"cardinality": CARDINALITY, "bottleneck_width": BOTTLENECK_WIDTH, "stride_on": _stride_on("3x3")},
        ("seresnext50_32x4d", "seresnext50", "se_resnext50", "se-resnext50-32x4d", "se-resnext-50"),
        Figure(
            params=27_559_896,
            mult_adds="4,233",
            published_mult_adds="4.25 B",
            source="table 2",
            explanation=(
                "The paper counts 4.24 B without squeeze and excitation too, where convolutions and the classifier "
                "hold 4.230 B; what else is in it, it does not say."
            ),
        ),
        Figure(params=27_559_896, mult_adds="3,771", options={"stride_on": "1x1"}),
    ),
)
