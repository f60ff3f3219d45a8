"""FD-MobileNet: MobileNet V1's units with the picture shrunk in half the layers.

Paper: Qin, Zhang, Chen, Wang, Peng, "FD-MobileNet: Improved MobileNet with a Fast Downsampling Strategy", ICIP 2018,
arXiv:1802.03750. Architecture: table 1.

Deviations: the pooling is over whatever the input size leaves, not a fixed 7×7. Channel counts are rounded to
multiples of 8, which changes nothing at the published widths (1, 0.5, 0.25).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.zoo.spec import Figure, ModelSpec, Option

if TYPE_CHECKING:
    from torch import nn

STEM = 32
# Table 1: output channels, stride of the depthwise convolution. The sixth unit's is the 12th layer, at 1/32.
UNITS = (
    (64, 2),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 4,
    (1024, 1),
)


def build(classes: int, width: float) -> nn.Module:
    """The network for ``classes`` classes at a width multiplier."""
    from pipeline.zoo.units.depthwise_separable import separable_network

    return separable_network(classes, width, STEM, UNITS)


SPECS = (
    ModelSpec(
        name="fd_mobilenet",
        title="FD-MobileNet",
        paper="arXiv:1802.03750",
        introduced=(
            "Fast downsampling: MobileNet V1's units, but 32 times smaller after 12 layers instead of 24. The layers "
            "that are left work on small maps with many channels, where a tiny budget buys the most."
        ),
        builder=build,
        smallest=32,
        options={"width": Option(1.0, "width multiplier: scales every channel count", 0.1, 4.0)},
        figures=(
            Figure(
                params=2_901_288,
                mult_adds="144.5",
                published_mult_adds="144 M",
                source="table 1",
                options={"width": 1.0},
            ),
            Figure(
                params=993_928,
                mult_adds="40.1",
                published_mult_adds="40 M",
                source="table 2",
                options={"width": 0.5},
            ),
            Figure(
                params=383_160,
                mult_adds="12.0",
                published_mult_adds="12 M",
                source="table 2",
                options={"width": 0.25},
            ),
        ),
    ),
)
