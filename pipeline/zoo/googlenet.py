"""GoogLeNet: the first network of inception units, and the form with batch norm of which weights are published.

Paper: Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich, "Going Deeper with Convolutions", CVPR
2015, arXiv:1409.4842. Architecture: table 1. Auxiliary heads: §5; they are made for training alone, from the option
``auxiliary_weight``, and neither counted, nor stored, nor exported. Batch norm is of Ioffe and Szegedy,
arXiv:1502.03167.

The paper shows two layers of local response normalisation (figure 3) without their numbers. Here they are AlexNet's,
k = 2, n = 5, α = 1e-4, β = 0.75, in its formula, where α is not divided by n (Caffe's GoogLeNet has k = 1 and divides).
β is fixed: at 0.75 the power is square roots and reciprocals, which every target computes.

Deviations: the last pooling is over whatever the input size leaves, not a fixed 7×7, and that of the heads leaves 4×4
positions of any map (5×5 / 3 at the published 14×14). ``googlenet_bn`` has batch norm (eps 1e-3) instead of biases and
of response normalisation, and a last maximum pooling of 2×2, as torchvision has it; its ``branch5_kernel`` 3 gives
torchvision's network, whose "5×5" branch is 3×3 by an old mistake. Weights start by He's rule; without batch norm in
its fan-in form, because in the other signals grow wherever a branch is narrower than the unit's input, which here is
everywhere. The option ``width`` is this project's, for small tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.zoo.shared.early_options import WIDTH, response_normalisation
from pipeline.zoo.spec import Figure, ModelSpec, Option

if TYPE_CHECKING:
    from torch import nn

# Table 1: 1×1, 3×3 reduction, 3×3, 5×5 reduction, 5×5, pool projection; one tuple per stage.
STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def build(
    classes: int,
    width: float,
    dropout: float,
    auxiliary_weight: float,
    auxiliary_dropout: float,
    lrn_window: int,
    lrn_alpha: float,
    lrn_k: float,
) -> nn.Module:
    """The network of table 1 for ``classes`` classes."""
    from functools import partial

    from torch import nn

    from pipeline.zoo.units.blocks import initialise
    from pipeline.zoo.units.googlenet import GoogLeNet
    from pipeline.zoo.units.normalisation import LocalResponseNorm

    normalise = partial(LocalResponseNorm, size=lrn_window, alpha=lrn_alpha, k=lrn_k)
    network = initialise(GoogLeNet(classes, STAGES, width, dropout, auxiliary_weight, auxiliary_dropout, normalise))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network


def build_bn(
    classes: int,
    width: float,
    dropout: float,
    auxiliary_weight: float,
    auxiliary_dropout: float,
    branch5_kernel: int,
) -> nn.Module:
    """The network with batch norm for ``classes`` classes."""
    from pipeline.zoo.units.blocks import initialise
    from pipeline.zoo.units.googlenet import GoogLeNet

    network = GoogLeNet(classes, STAGES, width, dropout, auxiliary_weight, auxiliary_dropout, None, branch5_kernel)
    return initialise(network)


OPTIONS = {
    "width": WIDTH,
    "dropout": Option(0.4, "share of the features dropped in training (§5)", 0.0, 0.9),
    "auxiliary_weight": Option(0.3, "weight of each auxiliary head's loss in training, 0: no heads (§5)", 0.0, 1.0),
    "auxiliary_dropout": Option(0.7, "share of each auxiliary head's hidden values dropped (§5)", 0.0, 0.9),
}
INTRODUCED = (
    "Inception units: filters of 1×1, 3×3 and 5×5 and a pooling side by side, behind 1×1 reductions that make them "
    "affordable. Global average pooling before one linear layer; auxiliary heads that carry gradients to the middle."
)

SPECS = (
    ModelSpec(
        name="googlenet",
        title="GoogLeNet",
        paper="arXiv:1409.4842",
        introduced=INTRODUCED,
        builder=build,
        smallest=32,
        options={**OPTIONS, **response_normalisation()},
        figures=(
            Figure(
                params=6_998_552,
                mult_adds="1,582.7",
                published_params="6.8 M",
                published_mult_adds="1550 M",
                source="MobileNet paper, table 8",
                explanation=(
                    "6.8 M is the sum of GoogLeNet's own table 1, whose K are 1,024 and which gives the first "
                    "convolution 2.7 K where it holds 9.4 K. The table's operations sum to 1,502 M, with 34 M for that "
                    "convolution, which does 118 M."
                ),
            ),
        ),
        aliases=("inception_v1",),
    ),
    ModelSpec(
        name="googlenet_bn",
        title="GoogLeNet with batch norm",
        paper="arXiv:1409.4842, arXiv:1502.03167",
        introduced=f"{INTRODUCED} With batch norm, which makes it trainable without care.",
        builder=build_bn,
        smallest=32,
        options={
            **OPTIONS,
            "branch5_kernel": Option(5, "kernel of the 5×5 branches; 3 in torchvision's weights", choices=(3, 5)),
        },
        figures=(
            Figure(params=7_005_832, mult_adds="1,582.7"),
            Figure(
                params=6_624_904,
                mult_adds="1,498.4",
                options={"branch5_kernel": 3},
                published_params="6.6 M",
                published_mult_adds="1.50 B",
                source="torchvision, table of classification weights",
            ),
        ),
    ),
)
