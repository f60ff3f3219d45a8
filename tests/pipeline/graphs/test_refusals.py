"""A network that cannot be exported is refused in one line: the cause, where it is in the network, and what helps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from edge_apps.runtime.preprocess import Preprocess
from pipeline.checkpoints import programs, pt2_archive
from pipeline.checkpoints import user_networks as networks
from pipeline.errors import BadInput
from pipeline.graphs.prepare import prepare

SIDE = 12
INPUT = Preprocess(height=SIDE, width=SIDE)

SOURCE = """
import torch
from torch import nn


class Body(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.conv, self.gate, self.head = nn.Conv2d(3, 4, 3), gate, nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.gate(self.conv(x)).mean((2, 3)))


class Gate(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # line 17
            return x
        return -x


class Wrong(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(10, 4)

    def forward(self, x):
        return self.fc(x.flatten(1))  # line 28


def branching(num_classes=4):
    return Body(Gate())


def wrong(num_classes=4):
    return nn.Sequential(Wrong())


def half(num_classes=4):
    return Body(nn.Identity()).half()


def double(num_classes=4):
    return Body(nn.Identity()).double()


def mixed(num_classes=4):
    net = Body(nn.Identity())
    net.head.bfloat16()
    return net


def complicated(num_classes=4):
    net = Body(nn.Identity())
    net.filter = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    return net


def lazy(num_classes=4):
    return Body(nn.LazyConv2d(4, 1))


def on_meta(num_classes=4):
    with torch.device("meta"):
        return Body(nn.Identity())


def scripted(num_classes=4):
    return torch.jit.script(Body(nn.Identity()))


def traced(num_classes=4):
    return torch.jit.trace(Body(nn.Identity()).eval(), torch.zeros(1, 3, 12, 12))


def dynamic(num_classes=4):
    return torch.ao.quantization.quantize_dynamic(Body(nn.Identity()), {nn.Linear}, dtype=torch.qint8)


def fake_quantized(num_classes=4):
    return Body(torch.ao.quantization.FakeQuantize())


def grey(num_classes=4):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Named(Wrong):
    def forward(this, x):
        return this.fc(x.flatten(1))  # line 90


def named(num_classes=4):
    return nn.Sequential(Named())


def on_a_gpu(num_classes=4):
    raise AssertionError("Torch not compiled with CUDA enabled")


class Dictionary(Body):
    def forward(self, x):
        return {"logits": super().forward(x), "features": x}


def dictionary(num_classes=4):
    return Dictionary(nn.Identity())


class Several(Body):
    def forward(self, x):
        return super().forward(x), x


def several(num_classes=4):
    return Several(nn.Identity())


def compiled(num_classes=4):
    return torch.compile(Body(nn.Identity()))


def parallel(num_classes=4):
    return nn.DataParallel(Body(nn.Identity()))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nets") / "net.py"
    path.write_text(SOURCE)
    return path


REFUSED = {
    "branching": r"in 'gate' \(Gate\), net.py line 17\. A path that depends on the values of an image .* torch.where",
    "wrong": r"fails on one picture .* in '0.fc' \(Linear\), net.py line 28\. Another size is `input`",
    "half": r"'net.py:half' computes in float16 \('conv.weight'\).*let the factory return network.float\(\)",
    "double": r"computes in float64 \('conv.weight'\)",
    "mixed": r"computes in bfloat16 \('head.weight'\)",
    "complicated": r"computes with complex numbers \('filter' is complex64\)",
    "lazy": r"a parameter without a size \('gate.weight', of a lazy module\): run the network once",
    "on_a_gpu": r"CUDA enabled\. A device is not needed: leave .cuda\(\)",
    "on_meta": r"'net.py:on_meta' has tensors without values \('conv.weight' is on the meta device\): build",
    "scripted": r"'net.py:scripted' returned a TorchScript module .*: let the factory return the torch.nn.Module",
    "traced": r"'net.py:traced' returned a TorchScript module .*: let the factory return the torch.nn.Module",
    "dynamic": r"'net.py:dynamic' is already quantized \('head' is a torch.ao.*Linear\): let the factory return",
    "fake_quantized": r"is already prepared for quantization \('gate' is a torch.ao.*FakeQuantize\): let the factory",
    "grey": r"in '0' \(Conv2d\)\. Images have 3 channels \(RGB\), and this layer takes 1: let",
    "named": r"in '0.fc' \(Linear\), net.py line 90\. Another size is `input`",
    "dictionary": r"returns a dict .* It has 'logits', 'features': .* as in net\(x\)\['logits'\]",
    "several": r"returns a tuple .* It has 2: .* as in net\(x\)\[0\]",
}


@pytest.mark.parametrize("factory", REFUSED)
def test_the_cause_and_the_module_are_named(source: Path, factory: str) -> None:
    def export() -> None:
        spec = networks.own(f"{source}:{factory}")
        network = spec.build(4)
        networks.check_logits(network, spec.name, 4, INPUT)
        prepare(network, INPUT)

    with pytest.raises(BadInput, match=REFUSED[factory]) as refused:
        export()
    assert "\n" not in str(refused.value)
    assert ("`input`" in str(refused.value)) == (factory in ("wrong", "named"))


@pytest.mark.parametrize("factory", ["compiled", "parallel"])
def test_what_runs_a_network_elsewhere_is_taken_off(source: Path, factory: str) -> None:
    network = networks.own(f"{source}:{factory}").build(4)
    assert type(network).__name__ == "Body"
    assert "conv.weight" in network.state_dict()


class Called(nn.Module):
    """A function of the features of a convolution, in a module of its own."""

    def __init__(self, function: object, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.function, self.inner = function, inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x) if self.inner is None else self.function(x, self.inner)  # type: ignore[operator]


def network(body: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def under_autocast(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return layer(x).float()


UNFIT = {
    "no running statistics": (
        nn.BatchNorm2d(8, track_running_stats=False),
        r"The batch norm '1' has no running statistics \(track_running_stats=False\).*Train it with",
    ),
    "dropout left on": (
        Called(lambda x: functional.dropout(x, 0.3)),
        r"'aten.dropout.default' in '1' as in training: the network is in evaluation mode, so give functional calls",
    ),
    "weights dropped": (
        Called(lambda x, fc: fc(functional.dropout(x, 0.0) * functional.dropout(fc.scale)), nn.Identity()),
        r"'aten.dropout.default' in '1' as in training",
    ),
    "batch norm as in training": (
        Called(
            lambda x, norm: functional.batch_norm(x, norm.running_mean, norm.running_var, training=True),
            nn.BatchNorm2d(8),
        ),
        r"'aten.batch_norm.default' in '1' as in training: .*so give functional calls training=self.training",
    ),
    "noise": (Called(lambda x: x + torch.randn_like(x)), r"draws random numbers \('aten.randn_like.default' in '1'\)"),
    "autocast": (
        Called(under_autocast, nn.Conv2d(8, 8, 1)),
        r"computes in bfloat16 in '1', because its forward enters torch.autocast on 'cpu': .*exported from float32",
    ),
    "vmap": (
        Called(lambda x, layer: torch.vmap(layer)(x), nn.Conv2d(8, 8, 1)),
        r"transformed by torch.vmap or torch.func in '1', which cannot be captured",
    ),
    "cond": (
        Called(lambda x: torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y - 1, (x,))),
        r"control flow \(cond in '1'\); no device file holds that\. Compute every path",
    ),
    "drop path": (
        Called(lambda x: x * torch.bernoulli(torch.full((x.shape[0], 1, 1, 1), 0.5))),
        r"draws random numbers \('aten.bernoulli.default' in '1'\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_a_layer_as_in_training_is_named(name: str) -> None:
    body, match = UNFIT[name]
    if name == "weights dropped":
        body.inner.scale = nn.Parameter(torch.ones(8, 1, 1))  # type: ignore[union-attr, assignment]
    with pytest.raises(BadInput, match=match) as refused:
        prepare(network(body), INPUT)
    assert "network.eval()" not in str(refused.value)  # it is in evaluation mode


@torch.library.custom_op("edge_test::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@twice.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def test_an_operator_of_an_extension_is_named() -> None:
    with pytest.raises(BadInput, match=r"calls 'edge_test::twice' in '1', which is not one of PyTorch's own operators"):
        prepare(network(Called(lambda x: twice(x))), INPUT)


class StandardizedConv(nn.Conv2d):
    """Weight standardization as timm and BiT write it: batch_norm(training=True) on the weight alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = functional.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6)
        return functional.conv2d(x, weight.reshape_as(self.weight), self.bias)


COMPUTED_ONCE = {
    "weight standardization": lambda: StandardizedConv(8, 8, 3),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 3)),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Conv2d(8, 8, 1)),
    "spectral norm by a hook": lambda: nn.utils.spectral_norm(nn.Conv2d(8, 8, 3)),
    "dropout of nothing": lambda: Called(lambda x: functional.dropout(x, 0.0)),
}


@pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
@pytest.mark.parametrize("name", COMPUTED_ONCE)
def test_what_depends_on_weights_alone_is_computed_once(name: str) -> None:
    torch.manual_seed(0)
    whole = network(COMPUTED_ONCE[name]()).eval()
    with torch.no_grad():
        prepared = prepare(whole, INPUT).network
        x = torch.randn(2, 3, SIDE, SIDE)
        assert torch.allclose(prepared(x), whole(x), atol=1e-5)
    operators = [str(node.target) for node in prepared.nodes if node.op == "call_function"]
    assert not [name for name in operators if "norm" in name or "mv" in name or "linalg" in name]
    if name in KEPT:
        check_kept(whole)


KEPT = ("weight standardization", "spectral norm")
"""The original program, as a bundle keeps it, is read back as a network."""


def check_kept(whole: nn.Module) -> None:
    program, _ = pt2_archive.read(pt2_archive.write(prepare(whole, INPUT).original), "it")
    again, height, width = programs.network_of(program, "it")
    x = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.allclose(prepare(again, INPUT).network(x), whole(x), atol=1e-5)
    assert (height, width) == (SIDE, SIDE)
