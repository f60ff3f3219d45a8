"""SqueezeNet 1.0 and 1.1.

Paper: Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters
and <0.5MB model size", 2016, arXiv:1602.07360. Architecture: table 1; metaparameters: §5.1; bypass: §6. Version 1.1 is
the authors' release of 2016: a smaller first convolution and earlier pooling, 2.4 times less computation.

The logits pass a ReLU before the average pooling, as published. Of the complex bypass, table 3 prints 7.7 MB; figure 2
as drawn counts to 6.4 MB (1,589,672 parameters), which is what is built here.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from pipeline.zoo.spec import Figure, ModelSpec, Option

if TYPE_CHECKING:
    from torch import nn

MODULES = 8  # fire2 to fire9
# Channels and kernel of the first convolution; the fire modules after which the network pools, 1 being the first
# convolution.
STEMS = {"1.0": (96, 7), "1.1": (64, 3)}
POOLED_AFTER = {"1.0": (1, 4, 8), "1.1": (1, 3, 5)}


def build(
    version: str,
    classes: int,
    base_expand: int,
    expand_step: int,
    step_every: int,
    squeeze_ratio: float,
    share_3x3: float,
    bypass: str,
    dropout: float,
) -> nn.Module:
    """The network for ``classes`` classes; the numbers are the metaparameters of §5.1."""
    from torch import nn

    from pipeline.zoo.units.blocks import GlobalAveragePool, initialise
    from pipeline.zoo.units.fire import Fire

    channels, kernel = STEMS[version]
    units: list[nn.Module] = [nn.Conv2d(3, channels, kernel, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    for number in range(2, MODULES + 2):
        expand = base_expand + expand_step * ((number - 2) // step_every)
        units.append(Fire(channels, *_filters(expand, squeeze_ratio, share_3x3), bypass))
        channels = expand
        if number in POOLED_AFTER[version]:
            units.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    classifier = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(channels, classes, 1), nn.ReLU(), GlobalAveragePool())
    return initialise(nn.Sequential(OrderedDict[str, nn.Module](features=nn.Sequential(*units), classifier=classifier)))


def _filters(expand: int, squeeze_ratio: float, share_3x3: float) -> tuple[int, int, int]:
    """Filters of the squeeze, the 1×1 and the 3×3 layer of one fire module (§5.1), at least one of each."""
    of_3x3 = min(max(1, round(expand * share_3x3)), expand - 1)
    return max(1, round(expand * squeeze_ratio)), expand - of_3x3, of_3x3


def deep_compressed_bytes(
    network: nn.Module, bits: int, density: float = 0.33, position_bits: float | None = None
) -> int:
    """Bytes of a network after Deep Compression (Han et al., 2015), counted, not measured (paper: table 2).

    Of every layer's weights the share ``density`` is kept, each as an index of ``bits`` into the layer's own codebook
    of float32 values, and its position. ``position_bits`` is what one position takes: 4, a distance from the one
    before, in the file that the authors released; left out, the least that any code can reach, which is the
    entropy of a random pattern of this density. Biases stay float32.
    """
    tensors = list(network.parameters())
    weights = [tensor.numel() for tensor in tensors if tensor.dim() > 1]
    biases = sum(tensor.numel() for tensor in tensors if tensor.dim() == 1)
    if position_bits is None:
        position_bits = -math.log2(density) - (1 - density) / density * math.log2(1 - density)
    codebooks = len(weights) * (1 << bits)
    return round(sum(weights) * density * (bits + position_bits) / 8 + 4 * (codebooks + biases))


OPTIONS = {
    "base_expand": Option(128, "base_e: expand filters of the first fire module (§5.1)", 8, 1024),
    "expand_step": Option(128, "incr_e: expand filters that are added at each step (§5.1)", 0, 1024),
    "step_every": Option(2, "freq: fire modules from one step to the next (§5.1)", 1, MODULES),
    "squeeze_ratio": Option(0.125, "SR: squeeze filters for each expand filter (§5.2)", 0.01, 1.0),
    "share_3x3": Option(0.5, "pct_3x3: share of the expand filters that are 3×3 (§5.3)", 0.01, 0.99),
    "bypass": Option(
        "none",
        "around fire modules, simple: where the channels stay; complex: 1×1 convolutions elsewhere (§6)",
        choices=("none", "simple", "complex"),
    ),
    "dropout": Option(0.5, "probability of dropout before the last convolution", 0.0, 0.9),
}


def _spec(version: str, *figures: Figure) -> ModelSpec:
    underscored = version.replace(".", "_")
    return ModelSpec(
        name=f"squeezenet_{underscored}",
        title=f"SqueezeNet {version}",
        paper="arXiv:1602.07360",
        introduced=(
            "Fire modules: few 1×1 filters squeeze the channels before 3×3 filters see them; pooling comes late. "
            "AlexNet's accuracy with 50 times fewer parameters: 4.8 MB for 240, and 0.66 MB after Deep Compression to "
            "8 bits or 0.47 MB to 6."
        ),
        builder=partial(build, version),
        smallest=32,
        options=OPTIONS,
        figures=figures,
        aliases=(f"squeezenet{underscored}", f"squeezenet{version}", f"squeezenet-{version}"),
    )


SPECS = (
    _spec(
        "1.0",
        Figure(
            params=1_248_424,
            mult_adds="818.9",
            published_params="1,248,424",
            published_mult_adds="1700 M",
            source="table 1; mult-adds: the MobileNet paper, table 9",
            explanation="1700 M counts multiplications and additions apart: twice 819 M is 1,638 M.",
        ),
        Figure(params=1_589_672, options={"bypass": "complex"}),
    ),
    _spec("1.1", Figure(params=1_235_496, mult_adds="349.2")),
)
