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
