"""ResNet, and the plain networks that it is compared with.

Paper: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
Architecture: table 1; shortcuts: §3.3 and table 3. ``plain18`` and ``plain34`` are the same layers without shortcuts
(figure 3, middle): deeper is worse there, and better with shortcuts (table 2). ``resnet_cifar`` is §4.2's network for
pictures of 32×32, whose shortcuts are zero padding unless asked otherwise.

The stride of a bottleneck is on its first 1×1 convolution, as published; ``stride_on=3x3`` is what torchvision's
weights were trained with. The width multiplier is this project's addition, for small tasks. It is the widening factor
of Zagoruyko and Komodakis ("Wide Residual Networks", 2016), applied to the first convolution too and rounded to
multiples of 8. ``reduction`` puts SENet's squeeze and excitation into every unit; SE-ResNet-18 and -50 as published,
and the weights for them, are in ``senet.py``.

Deviation: the pooling is over whatever the input size leaves, not a fixed 7×7.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pipeline.zoo.shared.residual_stages import FIRST_WITH_BOTTLENECKS, REPEATS, STRIDE_MEANING, WIDTH
from pipeline.zoo.spec import Figure, ModelSpec, Option

if TYPE_CHECKING:
    from torch import nn

SHORTCUT = Option(
    "B",
    "where the shape changes, A: zero padding, B: a projection; C: projections everywhere (§3.3, §4.1)",
    choices=("A", "B", "C"),
)
REDUCTION = Option(
    0, "squeeze-and-excitation in every unit: this reduction ratio (Hu et al., 2018), or 0 for none", 0, 64
)
STRIDE_ON = Option("1x1", f"{STRIDE_MEANING} (torchvision)", choices=("1x1", "3x3"))


def build(
    depth: int, classes: int, width: float, shortcut: str = "none", reduction: int = 0, stride_on: str = "1x1"
) -> nn.Module:
    """The network of ``depth`` layers for ``classes`` classes; ``none`` for the plain one."""
    from pipeline.zoo.units.blocks import initialise
    from pipeline.zoo.units.residual import BasicUnit, Bottleneck, ResidualNetwork, Style

    unit = BasicUnit if depth < FIRST_WITH_BOTTLENECKS else Bottleneck
    style = Style(shortcut=shortcut, stride_on=stride_on, reduction=reduction)
    return initialise(ResidualNetwork(unit, REPEATS[depth], classes, width, style))


def build_small(classes: int, units: int, width: float, shortcut: str, reduction: int) -> nn.Module:
    """The network of §4.2, whose 6n + 2 weighted layers are n = ``units`` units in each of three stages."""
    from pipeline.zoo.units.blocks import initialise
    from pipeline.zoo.units.residual import SmallResidualNetwork, Style

    return initialise(SmallResidualNetwork(units, classes, width, Style(shortcut=shortcut, reduction=reduction)))


def _resnet(depth: int, *figures: Figure) -> ModelSpec:
    options = {"width": WIDTH, "shortcut": SHORTCUT, "reduction": REDUCTION}
    return ModelSpec(
        name=f"resnet{depth}",
        title=f"ResNet-{depth}",
        paper="arXiv:1512.03385",
        introduced=(
            "Residual learning: every few layers learn what to add to their input, which a shortcut carries past them. "
            "Networks of more than a hundred layers became trainable, and better for their depth."
        ),
        builder=partial(build, depth),
        smallest=32,
        options=options if depth < FIRST_WITH_BOTTLENECKS else {**options, "stride_on": STRIDE_ON},
        figures=figures,
    )


def _plain(depth: int, *figures: Figure) -> ModelSpec:
    return ModelSpec(
        name=f"plain{depth}",
        title=f"Plain-{depth}",
        paper="arXiv:1512.03385",
        introduced=(
            f"What ResNet-{depth} is compared with: the same layers without shortcuts. It shows the degradation "
            "problem: with 34 layers even the training error is higher than with 18."
        ),
        builder=partial(build, depth),
        smallest=32,
        options={"width": WIDTH},
        figures=figures,
    )


def _small(*figures: Figure) -> ModelSpec:
    return ModelSpec(
        name="resnet_cifar",
        title="ResNet for CIFAR-10",
        paper="arXiv:1512.03385",
        introduced=(
            "Residual learning on pictures of 32×32: three narrow stages instead of four wide ones, and shortcuts "
            "without weights. The paper trains 20 to 1,202 layers of it."
        ),
        builder=build_small,
        smallest=8,
        options={
            "units": Option(3, "units in each of three stages, n; the network has 6n + 2 layers (§4.2)", 1, 18),
            "width": WIDTH,
            "shortcut": replace(SHORTCUT, default="A"),
            "reduction": REDUCTION,
        },
        figures=figures,
        input_size=32,
        classes=10,
    )


TABLE_1 = "table 1"
TABLE_6 = "table 6"
IN_TORCHVISION = "Torchvision's placement. The paper has the stride on the first 1×1 convolution."
ON_3X3 = {"stride_on": "3x3"}

SPECS = (
    _resnet(
        18,
        Figure(params=11_689_512, mult_adds="1,814", published_mult_adds="1.8 B", source=TABLE_1),
    ),
    _resnet(
        34,
        Figure(
            params=21_797_672,
            mult_adds="3,664",
            published_mult_adds="3.6 B",
            source=TABLE_1,
            explanation="3.6 B is the network without projections (plain, or shortcut A), which counts to 3,644 M.",
        ),
        Figure(
            params=21_623_848,
            mult_adds="3,644",
            options={"shortcut": "A"},
            published_mult_adds="3.6 B",
            source=TABLE_1,
        ),
    ),
    _resnet(
        50,
        Figure(
            params=25_557_032,
            mult_adds="3,858",
            published_params="25.6 M",
            published_mult_adds="3.8 B",
            source="table 1; parameters: the SENet paper, table 10",
            explanation="The paper prints 3.8 B for 3.858 B, cut off. The SENet paper prints 3.86.",
        ),
        Figure(params=25_557_032, mult_adds="4,089", options=ON_3X3, explanation=IN_TORCHVISION),
    ),
    _resnet(
        101,
        Figure(params=44_549_160, mult_adds="7,570", published_mult_adds="7.6 B", source=TABLE_1),
        Figure(params=44_549_160, mult_adds="7,801", options=ON_3X3, explanation=IN_TORCHVISION),
    ),
    _resnet(
        152,
        Figure(params=60_192_808, mult_adds="11,282", published_mult_adds="11.3 B", source=TABLE_1),
        Figure(params=60_192_808, mult_adds="11,514", options=ON_3X3, explanation=IN_TORCHVISION),
    ),
    _plain(18, Figure(params=11_515_688, mult_adds="1,795", published_mult_adds="1.8 B", source=TABLE_1)),
    _plain(34, Figure(params=21_623_848, mult_adds="3,644", published_mult_adds="3.6 B", source="§3.3")),
    _small(
        Figure(params=269_722, mult_adds="40.6", published_params="0.27 M", source=TABLE_6),
        *(
            Figure(params=params, mult_adds=counted, options={"units": n}, published_params=printed, source=TABLE_6)
            for n, params, counted, printed in (
                (5, 464_154, "68.9", "0.46 M"),
                (7, 658_586, "97.2", "0.66 M"),
                (9, 853_018, "125.5", "0.85 M"),
                (18, 1_727_962, "252.9", "1.7 M"),
            )
        ),
    ),
)
