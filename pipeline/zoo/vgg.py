"""VGG: deep stacks of 3×3 convolutions.

Paper: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
arXiv:1409.1556. Configurations A, A-LRN, B, C, D, E: table 1. C has 1×1 convolutions in the third place of its last
three stages. Dropout on the first two layers of the classifier: §3.1. A-LRN takes the numbers of Krizhevsky et al.
(2012), as the paper says: k = 2, n = 5, α = 1e-4, β = 0.75, in their formula, where α is not divided by n. β is fixed:
at 0.75 the power is square roots and reciprocals, which every target computes.

Deviations: ``batch_norm`` after every convolution is of a later date (the convolutions keep their biases, as in the
weights that torchvision publishes). Weights start by He's rule, not from N(0, 0.01) and a shallower trained net. The
options ``width`` and ``grid`` are this project's, for small tasks; any input is taken whose last map has grid × grid
positions or more, and averaged down to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from pipeline.zoo.shared.early_options import WIDTH, grid, response_normalisation
from pipeline.zoo.spec import Figure, ModelSpec, Option, Value

if TYPE_CHECKING:
    from torch import nn

# Table 1: channels of the five stages, each of which ends in 2×2 pooling; convolutions in each stage.
CHANNELS = (64, 128, 256, 512, 512)
A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)
C_KERNELS = (3, 3, 1)
HIDDEN = 4096


def build(
    classes: int,
    width: float,
    grid: int,
    dropout: float,
    batch_norm: bool,
    depths: tuple[int, ...],
    kernels: tuple[int, ...] = (3, 3, 3, 3),
) -> nn.Module:
    """A configuration of table 1 for ``classes`` classes; ``kernels`` are those of a stage's convolutions in turn."""
    return _classified(_stages(width, depths, kernels, batch_norm), classes, width, grid, dropout)


def build_a_lrn(
    classes: int, width: float, grid: int, dropout: float, lrn_window: int, lrn_alpha: float, lrn_k: float
) -> nn.Module:
    """Configuration A with local response normalisation after its first convolution."""
    from pipeline.zoo.units.blocks import make_divisible
    from pipeline.zoo.units.normalisation import LocalResponseNorm

    layers = _stages(width, A)
    layers.insert(2, LocalResponseNorm(make_divisible(CHANNELS[0] * width), lrn_window, lrn_alpha, lrn_k))
    return _classified(layers, classes, width, grid, dropout)


def _stages(
    width: float, depths: tuple[int, ...], kernels: tuple[int, ...] = (3, 3, 3, 3), batch_norm: bool = False
) -> list[nn.Module]:
    from torch import nn

    from pipeline.zoo.units.blocks import make_divisible

    layers: list[nn.Module] = []
    inputs = 3
    for base, depth in zip(CHANNELS, depths, strict=True):
        outputs = make_divisible(base * width)
        for kernel in kernels[:depth]:
            layers.append(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2))
            if batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU())
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    return layers


def _classified(layers: list[nn.Module], classes: int, width: float, grid: int, dropout: float) -> nn.Module:
    from torch import nn

    from pipeline.zoo.units.blocks import initialise, make_divisible
    from pipeline.zoo.units.grid_classifier import GridClassifier

    channels, hidden = make_divisible(CHANNELS[-1] * width), make_divisible(HIDDEN * width)
    classifier = nn.Sequential(
        nn.Linear(channels * grid**2, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, classes),
    )
    return initialise(GridClassifier(nn.Sequential(*layers), grid, classifier))


def smallest(options: Mapping[str, Value]) -> int:
    """What leaves grid × grid positions after halving five times."""
    return 32 * int(options["grid"])


OPTIONS = {
    "width": WIDTH,
    "grid": grid(7),
    "dropout": Option(0.5, "share of the classifier's hidden values dropped in training (§3.1)", 0.0, 0.9),
}
PLAIN_OPTIONS = {**OPTIONS, "batch_norm": Option(False, "batch normalisation after every convolution")}

DEPTH_BY_SMALL_FILTERS = (
    "Depth by small filters: a stack of three 3×3 convolutions sees as far as one 7×7, with fewer weights and three "
    "activations instead of one."
)


def _spec(
    letter: str,
    here: str,
    builder: Callable[..., nn.Module],
    options: Mapping[str, Option],
    aliases: tuple[str, ...],
    *figures: Figure,
) -> ModelSpec:
    return ModelSpec(
        name=f"vgg_{letter.lower().replace('-', '_')}",
        title=f"VGG {letter}",
        paper="arXiv:1409.1556",
        introduced=f"{DEPTH_BY_SMALL_FILTERS} {here}",
        builder=builder,
        smallest=smallest,
        options=options,
        figures=figures,
        aliases=aliases,
    )


def _table_2(params: int, mult_adds: str, published: str) -> Figure:
    return Figure(params=params, mult_adds=mult_adds, published_params=published, source="table 2")


def _with_batch_norm(params: int, mult_adds: str) -> Figure:
    return Figure(params=params, mult_adds=mult_adds, options={"batch_norm": True})


SPECS = (
    _spec(
        "A",
        "A has 11 layers with weights.",
        partial(build, depths=A),
        PLAIN_OPTIONS,
        ("vgg11",),
        _table_2(132_863_336, "7,609.1", "133 M"),
        _with_batch_norm(132_868_840, "7,609.1"),
    ),
    _spec(
        "A-LRN",
        "A-LRN is A with local response normalisation, which the paper found to be of no use.",
        build_a_lrn,
        {**OPTIONS, **response_normalisation("§2.1")},
        ("vgg11_lrn",),
        _table_2(132_863_336, "7,609.1", "133 M"),
    ),
    _spec(
        "B",
        "B has 13 layers with weights.",
        partial(build, depths=B),
        PLAIN_OPTIONS,
        ("vgg13",),
        _table_2(133_047_848, "11,308.5", "133 M"),
        _with_batch_norm(133_053_736, "11,308.5"),
    ),
    _spec(
        "C",
        "C has 16 layers with weights, three of them 1×1 convolutions: more activations, no wider view.",
        partial(build, depths=D, kernels=C_KERNELS),
        PLAIN_OPTIONS,
        ("vgg16_1x1",),
        _table_2(133_638_952, "11,770.9", "134 M"),
    ),
    _spec(
        "D",
        "D has 16 layers with weights, all convolutions 3×3.",
        partial(build, depths=D),
        PLAIN_OPTIONS,
        ("vgg16", "vgg"),
        _table_2(138_357_544, "15,470.3", "138 M"),
        Figure(
            params=138_357_544,
            mult_adds="15,470.3",
            published_params="138 M",
            published_mult_adds="15300 M",
            source="MobileNet paper, table 8",
            explanation=(
                "15,300 is close to the 13 convolutions alone, 15,346.6 M; the three linear layers are 123.6 M more."
            ),
        ),
        _with_batch_norm(138_365_992, "15,470.3"),
    ),
    _spec(
        "E",
        "E has 19 layers with weights, the deepest of the paper.",
        partial(build, depths=E),
        PLAIN_OPTIONS,
        ("vgg19",),
        _table_2(143_667_240, "19,632.1", "144 M"),
        _with_batch_norm(143_678_248, "19,632.1"),
    ),
)
