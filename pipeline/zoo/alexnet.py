"""AlexNet: the network that won ILSVRC-2012, and its successor in one tower.

Papers: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012
(``alexnet``: figure 2; local response normalisation §3.3, overlapping pooling §3.4, dropout §4.2). Krizhevsky, "One
weird trick for parallelizing convolutional neural networks", arXiv:1404.5997 (``alexnet_one_tower``, with the channels
and the paddings of the weights that torchvision publishes for it).

Local response normalisation is the paper's formula, b = a / (k + α Σ a²)^β with k = 2, n = 5, α = 1e-4, β = 0.75: α is
not divided by the window n. (Caffe and torch divide it, so that the same α is five times weaker there.) β is no option:
at 0.75 the power is square roots and reciprocals, which every target computes; a power in general is not.

Deviations: the input is 227×227, not the 224×224 of the paper, from which no 55×55 map results. The two halves of the
2012 network, one for each of its GPUs, are convolutions in two groups, and response normalisation sums across them, as
in Caffe's. Weights start by He's rule with zero biases, not from N(0, 0.01) with biases of 1. The options ``width`` and
``grid`` are this project's, for small tasks; any input is taken whose last map has grid × grid positions or more, and
averaged down to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.zoo.shared.early_options import WIDTH, grid, response_normalisation
from pipeline.zoo.spec import Figure, ModelSpec, Option, Value

if TYPE_CHECKING:
    from torch import nn

# Output channels of the five convolutions, and of the two hidden layers of the classifier.
TWO_GROUPS = (96, 256, 384, 384, 256)
ONE_TOWER = (64, 192, 384, 256, 256)
HIDDEN = 4096


def build(
    classes: int, width: float, grid: int, dropout: float, lrn_window: int, lrn_alpha: float, lrn_k: float
) -> nn.Module:
    """The network of 2012 (figure 2) for ``classes`` classes."""
    from torch import nn

    from pipeline.zoo.units.blocks import make_divisible
    from pipeline.zoo.units.normalisation import LocalResponseNorm

    c1, c2, c3, c4, c5 = (make_divisible(channels * width) for channels in TWO_GROUPS)
    features = nn.Sequential(
        nn.Conv2d(3, c1, 11, stride=4),
        nn.ReLU(),
        LocalResponseNorm(c1, lrn_window, lrn_alpha, lrn_k),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(c1, c2, 5, padding=2, groups=2),
        nn.ReLU(),
        LocalResponseNorm(c2, lrn_window, lrn_alpha, lrn_k),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(c2, c3, 3, padding=1),  # the one layer that reads both GPUs' maps
        nn.ReLU(),
        nn.Conv2d(c3, c4, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(c4, c5, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )
    return _classified(features, c5, classes, width, grid, dropout)


def build_one_tower(classes: int, width: float, grid: int, dropout: float) -> nn.Module:
    """The one-tower network for ``classes`` classes, its modules where torchvision's weights have them."""
    from torch import nn

    from pipeline.zoo.units.blocks import make_divisible

    c1, c2, c3, c4, c5 = (make_divisible(channels * width) for channels in ONE_TOWER)
    features = nn.Sequential(
        nn.Conv2d(3, c1, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(c1, c2, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(c2, c3, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(c3, c4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(c4, c5, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )
    return _classified(features, c5, classes, width, grid, dropout)


def _classified(
    features: nn.Sequential, channels: int, classes: int, width: float, grid: int, dropout: float
) -> nn.Module:
    from torch import nn

    from pipeline.zoo.units.blocks import initialise, make_divisible
    from pipeline.zoo.units.grid_classifier import GridClassifier

    hidden = make_divisible(HIDDEN * width)
    classifier = nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(channels * grid**2, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
    return initialise(GridClassifier(features, grid, classifier))


def smallest(options: Mapping[str, Value]) -> int:
    """What leaves grid × grid positions after 11×11 / 4 without padding and three poolings 3×3 / 2."""
    return _before_the_poolings(options) * 4 + 7


def smallest_one_tower(options: Mapping[str, Value]) -> int:
    """The same with the first convolution padded by 2."""
    return _before_the_poolings(options) * 4 + 3


def _before_the_poolings(options: Mapping[str, Value]) -> int:
    side = int(options["grid"])
    for _ in range(3):
        side = 2 * side + 1
    return side


OPTIONS = {
    "width": WIDTH,
    "grid": grid(6),
    "dropout": Option(0.5, "share of the classifier's inputs dropped in training (§4.2)", 0.0, 0.9),
}

SPECS = (
    ModelSpec(
        name="alexnet",
        title="AlexNet",
        paper="Krizhevsky et al., NIPS 2012",
        introduced=(
            "Deep convolutional networks for photographs: ReLU instead of tanh, training on GPUs (here two, hence two "
            "groups), local response normalisation, overlapping pooling, dropout."
        ),
        builder=build,
        smallest=smallest,
        options={**OPTIONS, **response_normalisation("§3.3")},
        figures=(
            Figure(
                params=60_965_224,
                mult_adds="724.4",
                published_params="60 M",
                published_mult_adds="720 M",
                source="NIPS 2012, abstract; MobileNet paper, table 9",
                explanation=(
                    "60 million is a round figure: the layers of the paper's figure 2 count to 60,965,224, and at its "
                    "55×55 first map to 724.4 M."
                ),
            ),
        ),
        input_size=227,
    ),
    ModelSpec(
        name="alexnet_one_tower",
        title="AlexNet, one tower",
        paper="arXiv:1404.5997",
        introduced=(
            "AlexNet without groups and without response normalisation, narrower where the groups had saved work; the "
            "paper is about training it on many GPUs, convolutions split by images and the classifier by neurons."
        ),
        builder=build_one_tower,
        smallest=smallest_one_tower,
        options=OPTIONS,
        figures=(
            Figure(
                params=61_100_840,
                mult_adds="714.2",
                published_params="61.1 M",
                published_mult_adds="0.71 B",
                source="torchvision, table of classification weights",
            ),
        ),
        aliases=("alexnet_owt",),
    ),
)
