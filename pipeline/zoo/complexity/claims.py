"""What the papers say of cost beyond one network's totals, counted again.

Shares of a network's cost, the two arguments for small kernels and for narrow layers before wide ones, memory, and
the comparison that opens the discussion of MobileNets. Published numbers are written as they were printed; every other
number is counted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipeline import zoo
from pipeline.zoo.complexity.check import Row, differs, fault, millions, words
from pipeline.zoo.spec import Value

if TYPE_CHECKING:
    from pipeline.zoo.complexity.count import Cost

POINTWISE, LINEAR = "1×1 conv", "linear"
MOBILENETS = "Howard et al. 2017"
PROJECT = "this project's source documents"


def claims() -> Iterator[Row]:
    """Sizes, shares and the two examples, each beside what was published."""
    yield from _sizes()
    yield from _shares()
    yield from _small_kernels()
    yield from _reduction()
    yield from _compression()


def _sizes() -> Iterator[Row]:
    """The two networks that the project starts from: four bytes a parameter, and nothing else."""
    from pipeline.zoo.complexity.count import count_model

    for model, published in (("mobilenet_v2", "8.947 MB"), ("efficientnet_b0", "16.081 MB")):
        size = 4 * count_model(zoo.get(model), classes=10).params
        yield _row(f"{model}, classes 10", "size in float32", size, f"{size / 1e6:.3f} MB", published, PROJECT)


def _shares() -> Iterator[Row]:
    """MobileNet V1, table 2: where weights and mult-adds are. And what is left of the smallest one."""
    cost, name = _count("mobilenet_v1"), "mobilenet_v1"
    kinds = cost.by_kind()
    table = f"{MOBILENETS}, table 2"
    for what, part, whole, published in (
        ("weights in 1×1 convolutions", kinds[POINTWISE][0], cost.weights, "74.59 %"),
        ("weights in the classifier", kinds[LINEAR][0], cost.weights, "24.33 %"),
        ("mult-adds in 1×1 convolutions", kinds[POINTWISE][1], cost.mult_adds, "94.86 %"),
    ):
        share = 100 * part / whole
        yield _row(name, what, share, f"{share:.2f} %", published, table)
    small = _count("mobilenet_v1", width=0.25)
    left = small.params - sum(layer.params for layer in small.layers if layer.kind == LINEAR)
    yield _row(f"{name}, width 0.25", "params without the classifier", left, f"{left:,}", "0.2 M", PROJECT)


def _small_kernels() -> Iterator[Row]:
    """VGG §2.3: three 3×3 layers on C channels see as much as one 7×7 layer and have fewer weights."""
    source, channels, coefficients = "Simonyan, Zisserman 2014, §2.3", 64, []
    for subject, kernels, published in (("three 3×3 layers", (3, 3, 3), "27 C²"), ("one 7×7 layer", (7,), "49 C²")):
        coefficient = _chain(channels, *((channels, kernel) for kernel in kernels)).weights / channels**2
        coefficients.append(coefficient)
        yield _row(subject, "weights, on C channels", coefficient, f"{coefficient:g} C²", published, source)
        side = 1 + sum(kernel - 1 for kernel in kernels)  # every stride is 1
        yield _row(subject, "receptive field, pixels a side", side, str(side), "7", source)
    more = 100 * (coefficients[1] / coefficients[0] - 1)
    yield _row("one 7×7 layer", "more weights", more, f"{more:.1f} %", "81 %", source)


def _reduction() -> Iterator[Row]:
    """GoogLeNet: a 1×1 layer that narrows 256 channels to 64 before the 5×5 layer."""
    source = "the reduction of Szegedy et al. 2014, §4, on 256 channels"
    for subject, layers, published in (
        ("1×1 256→64, then 5×5 64→64", ((64, 1), (64, 5)), "118,784"),
        ("5×5 256→64", ((64, 5),), "409,600"),
    ):
        weights = _chain(256, *layers).weights
        yield _row(subject, "weights", weights, f"{weights:,}", published, source)


def _compression() -> Iterator[Row]:
    """SqueezeNet, table 2: against AlexNet, and after Deep Compression."""
    import torch

    from pipeline.zoo.squeezenet import deep_compressed_bytes

    source, name = "Iandola et al. 2016, table 2", "squeezenet_1_0"
    alexnet, squeezenet = _count("alexnet"), _count(name)
    times = alexnet.params / squeezenet.params
    why = "The paper divides file sizes, 240 MB by 4.8 MB."
    yield _row(name, "fewer parameters than alexnet", times, f"{times:.1f}×", "50×", source, why)
    with torch.device("meta"):
        network = zoo.get(name).build()
    # 8 bits is the file that the authors released; of 6 bits none is known, and only the shortest positions give it.
    for bits, position_bits, positions, published in (
        (8, 4, "4 bits a position", "0.66 MB"),
        (6, None, "the shortest positions", "0.47 MB"),
    ):
        size = deep_compressed_bytes(network, bits, position_bits=position_bits)
        what = f"size with 33 % of the weights at {bits} bits, {positions}"
        yield _row(name, what, size, f"{size / 1e6:.2f} MB", published, source)


@dataclass(frozen=True)
class Peak:
    """Bytes of the largest tensor handed on, by the rules of both versions of the MobileNetV2 paper's table 3."""

    model: str
    setting: str
    first: int
    published_first: str
    later: int
    published_later: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


PEAK_RULE = (
    "The largest tensor that one unit hands to the next, at 16 bit, the first convolution's left out: it can be "
    "computed in slices together with the unit after it. The paper's first version left out every tensor at 112×112. "
    "The paper rounds channel counts (400 for ShuffleNet's 480, 32 for MobileNetV2's 24); here they are counted."
)


def peaks() -> tuple[Peak, ...]:
    """Peak activations in the order of the paper's table, smallest first."""
    table: tuple[tuple[str, dict[str, Value], str, str], ...] = (
        ("mobilenet_v2", {}, "200K", "400K"),
        ("shufflenet_v1", {"width": 2.0, "groups": 3}, "600K", "600K"),
        ("mobilenet_v1", {}, "800K", "1600K"),
    )
    found = []
    for model, options, first, later in table:
        cost = _count(model, **options)
        found.append(Peak(model, words(options), cost.peak_after_first_resolution, first, cost.peak_activation, later))
    return tuple(found)


def peak_faults(found: tuple[Peak, ...]) -> list[str]:
    """The order that the paper found must hold by both rules, and one tensor is known to the byte."""
    faults = []
    for rule, values in (("first", [peak.first for peak in found]), ("later", [peak.later for peak in found])):
        if values != sorted(values):
            faults.append(f"peak activations by the rule of the paper's {rule} version are not in its order: {values}")
    one_tensor = 128 * 56 * 56 * 2
    if found[-1].first != one_tensor:
        faults.append(f"{found[-1].model} counts a peak of {found[-1].first:,} bytes, recorded {one_tensor:,}")
    return faults


@dataclass(frozen=True)
class Compared:
    """A line of the table that opens the discussion of MobileNets; ``top1`` was published, nothing here measured it."""

    label: str
    model: str
    top1: str
    published_mult_adds: str
    mult_adds: str
    published_params: str
    params: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def comparison() -> tuple[Compared, ...]:
    """The MobileNet paper's table 8 with the counts beside it."""
    table = (
        ("1.0 MobileNet-224", "mobilenet_v1", "70.6 %", "569 M", "4.2 M"),
        ("GoogLeNet", "googlenet", "69.8 %", "1550 M", "6.8 M"),
        ("VGG-16", "vgg_d", "71.5 %", "15300 M", "138 M"),
    )
    lines = []
    for label, model, top1, mult_adds, params in table:
        cost = _count(model)
        lines.append(
            Compared(label, model, top1, mult_adds, f"{millions(cost.mult_adds)} M", params, f"{cost.params:,}")
        )
    return tuple(lines)


def _count(model: str, **options: Value) -> Cost:
    from pipeline.zoo.complexity.count import count_model

    return count_model(zoo.get(model), options)


def _chain(channels: int, *layers: tuple[int, int]) -> Cost:
    """The cost of convolutions in a row, each (outputs, kernel), without biases."""
    from torch import nn

    from pipeline.zoo.complexity.count import count

    chain = nn.Sequential()
    inputs = channels
    for outputs, kernel in layers:
        chain.append(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, device="meta"))
        inputs = outputs
    return count(chain, 28, 28, channels=channels)


def _row(
    subject: str, quantity: str, value: float, counted: str, published: str, source: str, explanation: str = ""
) -> Row:
    return Row(
        subject=subject,
        setting="",
        quantity=quantity,
        value=value,
        counted=counted,
        published=published,
        source=source,
        explanation=explanation if differs(value, published) else "",
        fault=fault(value, counted, "", published, explanation),
    )
