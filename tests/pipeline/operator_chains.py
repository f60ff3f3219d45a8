"""Operators that users' networks are made of, each as a module on ``[N, 8, H, W]``, and random chains of them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from edge_apps.runtime.preprocess import Preprocess

CHANNELS = 8
SIDE = 16
"""Of the image; the chain's operators work on a map of half of it."""

PREPROCESS = Preprocess(height=SIDE, width=SIDE)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def applied(function: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """A function of the image as a network: its result, flattened."""
    return nn.Sequential(Call(function), nn.Flatten()).eval()


class LastAxis(nn.Module):
    """A module on the channels, put last."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelNorm(nn.Module):
    """Layer normalization over channels by hand, as ConvNeXt writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(CHANNELS) + 0.5), nn.Parameter(torch.randn(CHANNELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(x, 1, keepdim=True, correction=0)
        return self.weight[:, None, None] * ((x - mean) / torch.sqrt(variance + 1e-6)) + self.bias[:, None, None]


class Einsum(nn.Module):
    """Channels mixed by a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CHANNELS, CHANNELS) / CHANNELS**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,dc->ndhw", x, self.weight)


class Chosen(nn.Module):
    """Channels in another order, by a constant index."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([1, 0, 4, 5, 6, 7, 2, 3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.order]


class Twice(nn.Module):
    """One layer used twice, on inputs of other ranges."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.layer(x).relu() * x)


class SplitAttention(nn.Module):
    """Two branches, weighed by a softmax between them: Li et al., "Selective Kernel Networks" (2019), §3.1."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = conv(padding=1), conv(5, padding=2)
        self.weigh = nn.Conv2d(CHANNELS, 2 * CHANNELS, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = torch.stack([self.one(x).relu(), self.other(x).relu()], 1)
        weights = self.weigh(branches.sum(1).mean((2, 3), keepdim=True))
        return (branches * weights.reshape(-1, 2, CHANNELS, 1, 1).softmax(1)).sum(1)


class Larger(nn.Module):
    """The larger of two layers' outputs, or the smaller."""

    def __init__(self, choose: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.one, self.other, self.choose = conv(1), conv(1), choose

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.choose(self.one(x), self.other(x))


def conv(kernel: int = 3, **options: object) -> nn.Conv2d:
    return nn.Conv2d(CHANNELS, CHANNELS, kernel, **options)  # type: ignore[arg-type]


def written(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, :, 1:] = x[:, :, :-1]
    return y


def written_by_steps(x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros_like(x) + x
    y[:, :, ::2, 1:] = x[:, :, 1::2, :-1]
    return y


def written_in_place(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, 2:5].relu_()
    y[:, 0] += 1
    y[:, 1, 2] = 0
    return y


def shifted_parts(x: torch.Tensor) -> torch.Tensor:
    """A temporal or spatial shift: some channels moved one column left, some right, the edge empty."""
    y = torch.zeros_like(x)
    y[:, :2, :, :-1] = x[:, :2, :, 1:]
    y[:, 2:4, :, 1:] = x[:, 2:4, :, :-1]
    y[:, 4:] = x[:, 4:]
    return y


def moved_and_computed_with(x: torch.Tensor) -> torch.Tensor:
    """A float value that is moved twice on its way into int8, and read between by float arithmetic."""
    part = x.softmax(1)[:, :, 1:]
    return torch.cat([part[:, CHANNELS // 2 :], part[:, : CHANNELS // 2] * 3.3 + 1.7], 1)


def halves_multiplied(x: torch.Tensor) -> torch.Tensor:
    one, other = x.reshape(-1, 2, CHANNELS // 2, *x.shape[2:]).unbind(1)
    return torch.cat([one * other, one], 1)


def affine(norm: nn.Module) -> nn.Module:
    """With weights that are not one."""
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return norm


def tracked(norm: nn.InstanceNorm2d) -> nn.InstanceNorm2d:
    norm.running_mean.normal_()  # type: ignore[union-attr]
    norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return norm


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "softplus": nn.Softplus,
    "softplus of beta 2": lambda: nn.Softplus(beta=2),
    "mish": nn.Mish,
    "elu": nn.ELU,
    "elu of alpha": lambda: nn.ELU(alpha=0.5),
    "selu": nn.SELU,
    "celu": lambda: nn.CELU(alpha=0.7),
    "gelu": nn.GELU,
    "gelu by tanh": lambda: nn.GELU(approximate="tanh"),
    "logsigmoid": nn.LogSigmoid,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
    "tanhshrink": nn.Tanhshrink,
    "softshrink": lambda: nn.Softshrink(0.2),
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "hardtanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "rrelu": nn.RReLU,
    "prelu": lambda: nn.PReLU(CHANNELS),
    "glu": lambda: Call(lambda x: functional.glu(torch.cat([x, x + x], 1), 1)),
    "hardshrink": lambda: nn.Hardshrink(0.3),
    "threshold": lambda: nn.Threshold(0.1, -0.5),
    "softplus of low threshold": lambda: nn.Softplus(beta=3, threshold=2),
    "softmax of the last axis": lambda: LastAxis(nn.Softmax(-1)),
    "log-softmax": lambda: nn.LogSoftmax(1),
    "softmax": lambda: nn.Softmax(1),
}

PADDINGS: dict[str, Callable[[], nn.Module]] = {
    "reflect": lambda: nn.ReflectionPad2d(1),
    "reflect wide": lambda: nn.ReflectionPad2d((3, 0, 1, 2)),
    "replicate": lambda: nn.ReplicationPad2d((0, 2, 1, 3)),
    "circular": lambda: nn.CircularPad2d((2, 1, 0, 3)),
    "zeros": lambda: nn.ZeroPad2d((1, 0, 2, 1)),
    "constant": lambda: nn.ConstantPad2d((1, 2, 0, 1), 1.5),
    "cropped": lambda: nn.ZeroPad2d((-1, 1, 0, -2)),
    "constant and cropped": lambda: nn.ConstantPad2d((-1, 1, 2, -2), -0.75),
    "one axis": lambda: Call(lambda x: functional.pad(x.flatten(2), (2, 1), mode="reflect")[:, :, None]),
    "convolution, reflect": lambda: conv(padding=1, padding_mode="reflect"),
    "convolution, replicate": lambda: conv(5, padding=(2, 1), padding_mode="replicate"),
    "convolution, circular": lambda: conv(padding=1, padding_mode="circular", stride=2),
}

NORMS: dict[str, Callable[[], nn.Module]] = {
    "group norm": lambda: affine(nn.GroupNorm(4, CHANNELS)),
    "group norm of one group": lambda: nn.GroupNorm(1, CHANNELS, affine=False),
    "instance norm": lambda: affine(nn.InstanceNorm2d(CHANNELS, affine=True)),
    "instance norm with statistics": lambda: tracked(nn.InstanceNorm2d(CHANNELS, track_running_stats=True)),
    "layer norm": lambda: LastAxis(affine(nn.LayerNorm(CHANNELS))),
    "layer norm of images": lambda: Call(lambda x: functional.layer_norm(x, x.shape[1:])),
    "layer norm by hand": ChannelNorm,
    "RMS norm": lambda: LastAxis(affine(nn.RMSNorm(CHANNELS))),
}

OTHERS: dict[str, Callable[[], nn.Module]] = {
    "convolution": conv,
    "pointwise": lambda: conv(1),
    "depthwise": lambda: conv(groups=CHANNELS, padding=1),
    "strided": lambda: conv(stride=2, padding=1),
    "roll": lambda: Call(lambda x: torch.roll(x, (1, -2), (2, 3))),
    "flip": lambda: Call(lambda x: x.flip(3)),
    "flip twice": lambda: Call(lambda x: torch.flip(x, (-1, -2))),
    "chosen channels": Chosen,
    "slice written": lambda: Call(written),
    "steps written": lambda: Call(written_by_steps),
    "written in place": lambda: Call(written_in_place),
    "shifted parts": lambda: Call(shifted_parts),
    "where": lambda: Call(lambda x: torch.where(x > 0, x, 0.1 * x)),
    "masked": lambda: Call(lambda x: x.masked_fill(x < 0, 0.0)),
    "standard deviation": lambda: Call(lambda x: x / (x.std((2, 3), keepdim=True) + 1)),
    "variance of channels": lambda: Call(lambda x: x * x.var(1, unbiased=False, keepdim=True)),
    "einsum": Einsum,
    "one layer twice": Twice,
    "split attention": SplitAttention,
    "maximum": lambda: Larger(torch.maximum),
    "minimum": lambda: Larger(torch.minimum),
    "bilinear": lambda: Call(lambda x: functional.interpolate(x, scale_factor=1.5, mode="bilinear")),
    "one minus": lambda: Call(lambda x: 1 - x),
    "columns of length 1": lambda: Call(lambda x: functional.normalize(x, dim=2)),
    "moved and computed with": lambda: Call(moved_and_computed_with),
    "largest channel": lambda: Call(lambda x: x * torch.sigmoid(x.max(1, keepdim=True)[0])),
    "broadcast": lambda: Call(lambda x: torch.cat([x.mean((2, 3), keepdim=True).expand_as(x)[:, :3], x[:, 3:]], 1)),
    "halves multiplied": lambda: Call(halves_multiplied),
    "maximum pooling": lambda: nn.MaxPool2d(3, 2, 1),
    "average pooling": lambda: nn.AvgPool2d(2),
}

OPERATORS = {**ACTIVATIONS, **PADDINGS, **NORMS, **OTHERS}


class Chain(nn.Module):
    """A convolution, operators on its map, and a classifier of three classes."""

    def __init__(self, *operators: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.middle = nn.Sequential(*operators)
        self.last = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.head = nn.Linear(CHANNELS, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.middle(self.stem(x))).relu().mean((2, 3)))


def alone(name: str) -> Chain:
    """One operator between two convolutions, with fixed random weights."""
    torch.manual_seed(0)
    return Chain(OPERATORS[name]()).eval().requires_grad_(False)


def chain(seed: int) -> tuple[tuple[str, ...], Chain]:
    """Three operators by a seed, of those that fit one another: names and network."""
    chance = random.Random(seed)
    while True:
        names = tuple(chance.choices(list(OPERATORS), k=3))
        torch.manual_seed(seed)
        network = Chain(*(OPERATORS[name]() for name in names)).eval().requires_grad_(False)
        with contextlib.suppress(RuntimeError):  # a map that became smaller than a window or a border
            network(images(1))
            return names, network


def images(count: int = 32) -> torch.Tensor:
    """Float pixels 0…255, ``[N, 3, SIDE, SIDE]``, smooth enough to be images."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    return (functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear") * 255).round()
