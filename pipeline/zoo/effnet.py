"""EffNet: spatially separable blocks that lose their data slowly.

Paper: Freeman, Roese-Koerner, Kummert, "EffNet: An Efficient Structure for Convolutional Neural Networks", ICIP 2018,
arXiv:1801.06434. Architecture: the paper's table of data flow; the block: ``units/effnet_block.py``.

Deviations: batch normalisation comes before the leaky ReLU, not after it as in the common code, because only then
does it fold into the convolution. The classifier reads a 4×4 map, as published for 32×32; a larger map is averaged
down to it, so that every input size has the same classifier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.zoo.spec import Figure, ModelSpec, Option

if TYPE_CHECKING:
    from torch import nn

# Output channels of the three blocks.
BLOCKS = (64, 128, 256)
GRID = 4
"""Positions along each side of the map that the classifier reads: what three blocks leave of 32 pixels."""


def build(classes: int, width: float, bottleneck: float, slope: float) -> nn.Module:
    """The network for ``classes`` classes; a block works inside at outputs / ``bottleneck`` channels."""
    from torch import nn

    from pipeline.zoo.units.blocks import initialise, make_divisible
    from pipeline.zoo.units.effnet_block import EffNetBlock
    from pipeline.zoo.units.grid_classifier import GridClassifier

    channels = 3
    blocks: list[nn.Module] = []
    for base in BLOCKS:
        outputs = make_divisible(base * width)
        blocks.append(EffNetBlock(channels, make_divisible(base * width / bottleneck), outputs, slope))
        channels = outputs
    head = nn.Sequential(nn.Linear(channels * GRID**2, classes))
    return initialise(GridClassifier(nn.Sequential(*blocks), GRID, head))


SPECS = (
    ModelSpec(
        name="effnet",
        title="EffNet",
        paper="arXiv:1801.06434",
        introduced=(
            "A 3×3 depthwise convolution split into 1×3 and 3×1 with a pool of rows between them and a stride along "
            "columns after them: the data shrinks in two steps instead of one, which small networks need."
        ),
        builder=build,
        smallest=8 * GRID,
        options={
            "width": Option(1.0, "width multiplier: scales every channel count", 0.1, 4.0),
            "bottleneck": Option(2.0, "how many times fewer channels a block has inside than at its end", 1, 8),
            "slope": Option(
                0.3, "slope of the leaky ReLU below zero; the paper names none, 0.3 is Keras's default", 0.0, 1.0
            ),
        },
        figures=(
            Figure(
                params=151_146,
                mult_adds="5.6",
                published_mult_adds="11.4 M",
                source="the table of results on CIFAR-10, FLOPs",
                explanation=(
                    "The paper counts multiplies and adds separately, and more than convolutions: twice 5.64 M is "
                    "11.28 M."
                ),
            ),
            Figure(params=4_207_176, mult_adds="278.5", classes=1000, input_size=224),
        ),
        input_size=32,
        classes=10,
    ),
)
