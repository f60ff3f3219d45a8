"""A network as devices get it computes what it computed, with the same names, and without what runtimes leave out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from calibration.tensor_keys import module_path
from edge_apps.runtime.preprocess import Preprocess
from pipeline import zoo
from pipeline.errors import BadInput
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.front_ends import BytesInput, capture_bytes
from pipeline.graphs.prepare import prepare
from pipeline.graphs.units import ChannelScale, Mean

SIDE = 32
INPUT = Preprocess(height=SIDE, width=SIDE)


def trained(network: nn.Module) -> nn.Module:
    """With batch norms far from the identity."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
            with torch.no_grad():
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
    return network.eval()


def same(network: nn.Module, preprocess: Preprocess = INPUT, batch: int = 3) -> FlatNetwork:
    """Prepare, and compare on noise."""
    prepared = prepare(network, preprocess).network
    x = torch.randn(batch, 3, preprocess.height, preprocess.width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, answered = network.eval()(x), prepared(x)
    assert answered.shape == expected.shape
    assert float((expected - answered).abs().max() / expected.abs().max()) <= 1e-5
    return prepared


def operators(network: nn.Module) -> set[str]:
    """What a front end captures of it, without overload names."""
    program = capture_bytes(BytesInput(network, INPUT).eval(), INPUT)
    return {
        str(node.target).split(".")[1]
        for node in program.graph.nodes
        if node.op == "call_function" and "." in str(node.target)
    }


FRONT_END = {"permute", "to", "_assert_tensor_metadata", "mul", "add"}


class Classifier(nn.Module):
    """A body between a convolution to 8 channels and a classifier."""

    def __init__(self, body: nn.Module, channels: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = body
        self.head = nn.Linear(channels, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(self.stem(x))
        return self.head(y.mean((2, 3)) if y.dim() == 4 else y)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)  # type: ignore[operator]


def joined(parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([part * (i + 1) for i, part in enumerate(parts)], 1)


def shuffled(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return torch.transpose(x.view(n, 2, c // 2, h, w), 1, 2).contiguous().view(n, -1, h, w) * torch.arange(8.0).view(
        1, 8, 1, 1
    )


REWRITTEN = {
    "silu": (nn.SiLU(), "silu"),
    "silu in place": (nn.SiLU(inplace=True), "silu_"),
    "hardswish": (nn.Hardswish(), "hardswish"),
    "hardswish of vectors": (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Hardswish()), "hardswish"),
    "hardsigmoid": (nn.Hardsigmoid(), "hardsigmoid"),
    "global average": (nn.AdaptiveAvgPool2d(1), "adaptive_avg_pool2d"),
    "equal bins": (nn.AdaptiveAvgPool2d((4, 8)), "adaptive_avg_pool2d"),
    "overlapping equal bins": (nn.Sequential(nn.MaxPool2d(4, 4, 2), nn.AdaptiveAvgPool2d(4)), "adaptive_avg_pool2d"),
    "no pooling": (nn.AdaptiveAvgPool2d(SIDE), "adaptive_avg_pool2d"),
    "average": (nn.AvgPool2d(3, 2, 1), "avg_pool2d"),
    "oblong average": (nn.AvgPool2d((3, 2), (2, 1), (1, 0)), "avg_pool2d"),
    "average with a divisor": (nn.AvgPool2d(3, 2, 1, count_include_pad=False, divisor_override=4), "avg_pool2d"),
    "average of all": (nn.AvgPool2d(SIDE), "avg_pool2d"),
    "split": (Call(lambda x: joined(torch.split(x, 3, 1))), "split"),
    "split with sizes": (Call(lambda x: joined(x.split([1, 5, 2], 1))), "split_with_sizes"),
    "chunk": (Call(lambda x: joined(x.chunk(3, -3))), "chunk"),
    "channel shuffle": (nn.ChannelShuffle(4), "channel_shuffle"),
    "local response norm": (nn.LocalResponseNorm(5, 1e-2, 0.75, 2.0), "avg_pool3d"),
    "local response norm of even size": (nn.LocalResponseNorm(4, 0.5, 0.75, 1.0), "avg_pool3d"),
    "two means": (Call(lambda x: x.mean(3).mean(2)), "squeeze"),
    "two means from the front": (Call(lambda x: x.mean(2).mean(-1)), "squeeze"),
    "batch norm before": (nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()), "batch_norm"),
    "batch norm of vectors": (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8)), "batch_norm"),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1)), "_weight_norm"),
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_what_a_runtime_leaves_out_is_written_otherwise(name: str) -> None:
    body, gone = REWRITTEN[name]
    network = trained(Classifier(copy.deepcopy(body)))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    prepared = same(network)
    assert gone not in operators(prepared)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "dropped"])
@pytest.mark.parametrize(
    ("height", "width", "windows"),
    [
        (32, 64, []),
        (112, 112, [8, 7]),
        (75, 150, [5, 5]),
        (300, 300, [6, 5, 5]),
        (65, 65, [5]),
        (66, 65, []),
        (127, 127, []),
    ],
)
def test_a_long_sum_begins_with_windows(height: int, width: int, windows: list[int], keep: bool) -> None:
    """Where one size of them covers the map; no longer than a kernel's float32 bears."""
    body = Call(lambda x: x.mean((2, 3), keepdim=keep).reshape(-1, 8))
    network = Classifier(nn.Sequential(body)).eval()
    prepared = same(network, Preprocess(height=height, width=width))
    found = [pool for module in prepared.modules() if isinstance(module, Mean) for pool in module.windows]
    assert [tuple(pool.weight.shape[2:]) for pool in found] == [(side, side) for side in windows]


NEGATIVE = Call(lambda x: -x.abs() - 1)
"""Zeros would win every window that they touch."""


def pooled(network: nn.Module, size: Preprocess) -> tuple[bool, int]:
    """Whether the one maximum pooling of a prepared network has a ceiling, and how often something is joined."""
    program = capture_bytes(BytesInput(same(network, size), size).eval(), size)
    called = [(str(node.target).split(".")[1], node.args) for node in program.graph.nodes if node.op == "call_function"]
    [arguments] = [arguments for name, arguments in called if name == "max_pool2d"]
    return True in arguments, [name for name, _ in called].count("cat")


@pytest.mark.parametrize("side", range(7, 14))
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (3, 3, 1), (4, 3, 0), (5, 3, 2), (4, 2, 0)]
)
@pytest.mark.parametrize("before", [NEGATIVE, nn.ReLU(), nn.ReLU6()], ids=["negative", "relu", "relu6"])
def test_maximum_pooling_with_a_ceiling(before: nn.Module, side: int, kernel: int, stride: int, padding: int) -> None:
    network = Classifier(nn.Sequential(before, nn.MaxPool2d(kernel, stride, padding, ceil_mode=True))).eval()
    has_ceiling, _ = pooled(network, Preprocess(height=side, width=side + 1))
    assert not has_ceiling


@pytest.mark.parametrize(
    ("kernel", "stride", "height", "width"),
    [(3, 2, 8, 8), (3, 2, 12, 10), (2, 2, 7, 7), (2, 2, 7, 8), (2, 2, 12, 9), (3, 3, 8, 11), (2, 3, 9, 10)],
)
def test_a_ceiling_that_every_target_takes_stays(kernel: int, stride: int, height: int, width: int) -> None:
    """As many windows as the stride fits in, and one row or column too few for the last."""
    network = Classifier(nn.Sequential(NEGATIVE, nn.MaxPool2d(kernel, stride, ceil_mode=True))).eval()
    assert pooled(network, Preprocess(height=height, width=width)) == (True, 0)


@pytest.mark.parametrize(
    ("function", "channels", "rescaled"),
    [
        (lambda x: torch.cat([torch.sigmoid(x), x], 1), 16, 1),
        (lambda x: torch.cat([torch.sigmoid(x), torch.sigmoid(x + 1)], 1), 16, 2),
        (lambda x: torch.cat([functional.max_pool2d(torch.sigmoid(x)[:, :4], 3, 1, 1), x], 1), 12, 1),
        (lambda x: functional.max_pool2d(torch.sigmoid(x), 3, 3, ceil_mode=True), 8, 0),  # the edge needs no joining
        (lambda x: functional.max_pool2d(torch.sigmoid(x), 4, 3, ceil_mode=True), 8, 1),
        (lambda x: torch.cat([x * torch.sigmoid(x), x], 1), 16, 0),
        (lambda x: x * torch.sigmoid(x.mean((2, 3))).view(-1, 8, 1, 1), 8, 0),
    ],
    ids=["whole", "both", "a part", "at the edge", "over the edge", "a product", "a gate"],
)
def test_a_sigmoid_that_is_joined_is_rescaled(function: object, channels: int, rescaled: int) -> None:
    """Its int8 scale is fixed, and a concatenation has one."""
    prepared = same(trained(Classifier(Call(function), channels)))
    assert sum(isinstance(module, ChannelScale) for module in prepared.modules()) == rescaled


def test_a_shuffle_that_is_written_out_is_found() -> None:
    prepared = same(trained(Classifier(Call(shuffled))))
    assert any(type(module).__name__ == "ChannelShuffle" for module in prepared.modules())


@pytest.mark.parametrize(
    "body",
    [nn.AdaptiveAvgPool2d(5), nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.LocalResponseNorm(5, 1e-4, 0.5)],
)
def test_what_has_no_other_form_stays(body: nn.Module) -> None:
    same(trained(Classifier(body)))


def test_zoo_networks_are_in_the_right_form_already() -> None:
    network = trained(zoo.get("mobilenet_v2").build(4, width=0.1))
    prepared = same(network)
    assert operators(prepared) - FRONT_END == {"conv2d", "hardtanh", "mean", "flatten", "linear"}
    weights = [key for key, value in network.state_dict().items() if value.dim() > 1]
    assert [key for key, value in prepared.state_dict().items() if value.dim() > 1] == weights


class Disorder(nn.Module):
    """Defined in another order than executed, so that neighbours in the definition do not belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3)
        self.bn2 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 5)
        self.bn3 = nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.bn2(self.conv2(x))
        return self.bn3(self.head(x.mean((2, 3))))


def test_batch_norms_are_folded_by_what_is_executed() -> None:
    prepared = same(trained(Disorder()))
    assert "batch_norm" not in operators(prepared)
    assert {name for name, _ in prepared.named_parameters()} == {
        f"{layer}.{kind}" for layer in ("conv1", "conv2", "head") for kind in ("weight", "bias")
    }


class Shared(nn.Module):
    """One convolution called twice, with another batch norm each time, and once without."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(6), nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.bn1(self.conv(x))
        x = self.bn2(self.conv(x))
        return self.conv(x).mean((2, 3))


def test_a_shared_convolution_is_folded_for_each_call() -> None:
    assert "batch_norm" not in operators(same(trained(Shared())))


class TwoReaders(nn.Module):
    """A convolution whose output is needed as it is, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return (self.bn(y) + y).mean((2, 3))


def test_a_convolution_with_other_readers_keeps_its_weights() -> None:
    network = trained(TwoReaders())
    prepared = same(network)
    assert torch.equal(prepared.get_parameter("conv.weight"), network.get_parameter("conv.weight"))
    assert "batch_norm" not in operators(prepared)


class Overwritten(nn.Module):
    """Operators that write into their input, some of which is read again under another name."""

    def __init__(self, part: bool) -> None:
        super().__init__()
        self.conv, self.part = nn.Conv2d(3, 6, 3), part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if self.part:
            functional.relu_(y[:, :3])
            return y.mean((2, 3))
        functional.silu(y, inplace=True)
        y += 1
        return y.mean((2, 3))


@pytest.mark.parametrize("part", [False, True])
def test_what_is_overwritten_is_read_as_overwritten(part: bool) -> None:
    same(Overwritten(part).eval())


def test_module_paths_survive() -> None:
    network = trained(zoo.get("mobilenet_v2").build(4, width=0.1))
    program = capture_bytes(BytesInput(same(network), INPUT).eval(), INPUT)
    found = [
        module_path(node)
        for node in program.graph.nodes
        if str(node.target) in ("aten.conv2d.default", "aten.linear.default")
    ]
    assert found == [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def test_a_copy_computes_the_same() -> None:
    prepared = same(trained(Disorder()))
    x = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.equal(prepared(x), copy.deepcopy(prepared)(x))


class Single(nn.Module):
    """It names its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(functional.adaptive_avg_pool2d(x, 4).view(1, 48))


def test_a_network_of_single_pictures_takes_them_one_by_one() -> None:
    network = Single().eval()
    prepared = prepare(network, INPUT).network
    x = torch.randn(5, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = torch.cat([network(picture[None]) for picture in x])
        assert torch.allclose(prepared(x), expected, atol=1e-6)
    assert prepared.batch == 1
    assert "cat" not in operators(prepared)


class Branching(nn.Module):
    """What it computes depends on the picture."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else -x.mean((2, 3))


class TwoOutputs(nn.Module):
    """Logits, and something else."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean((2, 3)), x


class AlwaysDropping(nn.Module):
    """F.dropout drops unless it is told not to."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x.mean((2, 3)))


class Counting(nn.Module):
    """It remembers how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return x.mean((2, 3)) * self.count


@pytest.mark.parametrize("network", [AlwaysDropping(), Counting()])
def test_what_trains_in_evaluation_mode_is_refused(network: nn.Module) -> None:
    with pytest.raises(BadInput, match=r"as in training: .* give functional calls training=self.training"):
        prepare(network, INPUT)


def test_what_cannot_be_captured_is_said_in_one_line() -> None:
    with pytest.raises(BadInput, match="cannot be captured by torch.export .*: .*depends on the values") as refused:
        prepare(Branching(), INPUT)
    assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match=r"does not return one tensor; a classifier returns its logits \[N, K\]"):
        prepare(TwoOutputs(), INPUT)


def test_training_mode_is_left_as_it_was() -> None:
    network = Disorder().train()
    prepare(network, INPUT)
    assert network.training
