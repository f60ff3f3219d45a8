"""Device and number format."""

import pytest
import torch
from torch import nn

from pipeline.errors import BadInput
from pipeline.training import hardware


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match="no GPU"):
        hardware.choose_device("cuda")
    assert hardware.choose_device("auto").type == hardware.choose_device("cpu").type == "cpu"


def test_a_gpu_is_used_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [hardware.choose_device(asked).type for asked in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


@pytest.mark.parametrize(
    ("timings", "chosen", "times"),
    [
        ([(0.2, 0.1), (0.2, 0.1)], "bf16", 2),
        ([(0.116, 0.1), (0.116, 0.1)], "bf16", 2),
        ([(0.114, 0.1)], "fp32", 1),  # within what repeated timings differ by
        ([(0.1, 0.2)], "fp32", 1),
        ([(0.2, 0.1), (0.1, 0.1)], "fp32", 2),  # faster once: something else ran beside it
    ],
)
def test_bf16_is_chosen_by_a_clear_and_repeated_margin_only(monkeypatch, timings, chosen, times):
    left = [hardware.StepSeconds(*seconds) for seconds in timings]
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(hardware, "step_seconds", lambda _network, _batch: left.pop(0))
    precision, reason = hardware.choose_precision(nn.Identity(), torch.zeros(2, 3, 4, 4))
    assert (precision, left) == (chosen, [])
    fp32, bf16 = timings[times - 1]
    assert f"fp32 {fp32 * 1000:.0f} ms, bf16 {bf16 * 1000:.0f} ms" in reason


def test_the_number_formats_are_timed_in_turns(monkeypatch):
    """A burst of other work hits both, and the fastest step of each counts."""
    order, seconds = [], iter([9.0, 9.0, 0.3, 0.2, 0.1, 5.0, 4.0, 0.25])

    def step(_network, _batch, precision):
        order.append(precision)
        return next(seconds)

    monkeypatch.setattr(hardware, "_step", step)
    assert hardware.step_seconds(nn.Identity(), torch.zeros(2, 3, 4, 4)) == (0.1, 0.2)
    assert order == ["fp32", "bf16"] * 4


def test_a_cpu_without_bf16_is_not_timed(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    monkeypatch.setattr(hardware, "step_seconds", lambda *_: pytest.fail("timed"))
    assert hardware.choose_precision(nn.Identity(), torch.zeros(2, 3, 4, 4))[0] == "fp32"


def test_the_probe_leaves_the_network_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert min(hardware.step_seconds(network, torch.randn(2, 3, 8, 8))) > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


class MixesFormats(nn.Module):
    """Keep running statistics as many norms of one's own do: a bf16 mean cannot be blended into a float32 buffer."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, images):
        values = self.convolution(images)
        with torch.no_grad():
            self.mean.lerp_(values.mean((0, 2, 3)), 0.1)
        return values.mean((2, 3))


class Overflows(nn.Module):
    """Lose a difference that bf16 has no digits for: 1 + 1/512 is 1 in it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, images):
        logits = self.linear(images.mean((2, 3)))
        rest = (1 + logits.new_full((), 2**-9)) - 1  # 0 in bf16
        return logits + rest / rest


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (MixesFormats(), "a training step in bf16 fails (expected dtype float"),
        (Overflows(), "the loss in bf16 is nan"),
    ],
)
def test_a_network_that_fails_in_bf16_is_trained_in_fp32(monkeypatch, network, said):
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(hardware, "step_seconds", lambda *_: pytest.fail("timed"))
    batch = torch.randn(2, 3, 8, 8)
    precision, reason = hardware.choose_precision(network, batch)
    assert precision == "fp32"
    assert reason.startswith(f"bf16 cannot be used: {said}")
    assert "\n" not in reason


def test_what_fails_in_every_number_format_is_no_fault_of_bf16():
    assert hardware.bf16_fault(nn.Linear(5, 2), torch.randn(2, 3, 8, 8)) is None


def test_looking_for_a_fault_leaves_the_network_alone():
    network = MixesFormats().eval()
    hardware.bf16_fault(network, torch.randn(2, 3, 8, 8))
    assert not network.training
    assert not network.mean.any()
    assert network.convolution.weight.grad is None
