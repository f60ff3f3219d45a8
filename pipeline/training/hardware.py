"""Where a training computes, and in which number format."""

from __future__ import annotations

import copy
import time
import warnings
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from edge_apps.errors import first_line
from pipeline.errors import BadInput
from pipeline.training.settings import Precision

PROBE_STEPS = 3
"""Steps timed of each number format in a comparison, in turns, so that other work on the machine slows both down."""

COMPARISONS, MARGIN = 2, 1.15
"""bf16 is chosen where fp32 takes more than 1.15 times as long in both comparisons: less is noise, and bf16 may cost
accuracy."""


class StepSeconds(NamedTuple):
    """Seconds of the fastest training step in each number format."""

    fp32: float
    bf16: float

    def bf16_is_clearly_faster(self) -> bool:
        """Whether the difference is beyond what repeated timings of the same thing differ by."""
        return self.fp32 > MARGIN * self.bf16

    def __str__(self) -> str:
        """As ``fp32 84 ms, bf16 51 ms a step``."""
        return f"fp32 {1000 * self.fp32:.0f} ms, bf16 {1000 * self.bf16:.0f} ms a step"


def choose_device(asked: str) -> torch.device:
    """``auto`` takes a GPU where there is one; ``BadInput`` where ``cuda`` is asked for and there is none."""
    present = torch.cuda.is_available()
    if asked == "cuda" and not present:
        raise BadInput("Device 'cuda' was asked for, but torch sees no GPU here: use `device=cpu` or auto.")
    return torch.device("cuda" if present and asked != "cpu" else "cpu")


def choose_precision(network: nn.Module, batch: torch.Tensor) -> tuple[Precision, str]:
    """Choose the training precision for this network on the device where ``batch`` (float ``[N, 3, H, W]``) is.

    fp32, unless the device computes bfloat16 products in hardware and is clearly faster with them each time that steps
    of a copy are timed. Dense convolutions gain; depthwise ones, and small networks on a GPU, may lose. A network that
    fails in bf16 is trained in fp32. Returns the choice and its reason.
    """
    if batch.device.type == "cuda":
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            return "fp32", "the GPU has no bf16"
    elif not cpu_has_bf16():
        return "fp32", "this CPU has no bf16 instructions"
    fault = bf16_fault(network, batch)
    if fault is not None:
        return "fp32", f"bf16 cannot be used: {fault}"
    for _ in range(COMPARISONS):
        seconds = step_seconds(network, batch)
        if not seconds.bf16_is_clearly_faster():
            return "fp32", f"timed: {seconds}; bf16 has to be clearly faster, {COMPARISONS} times"
    return "bf16", f"timed {COMPARISONS} times: {seconds}"


def cpu_has_bf16() -> bool:
    """Whether the CPU computes bfloat16 products in hardware."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def bf16_fault(network: nn.Module, batch: torch.Tensor) -> str | None:
    """Return why a copy of the network cannot be trained in bf16 on ``batch``, as a clause; None where it can.

    Networks of one's own may mix number formats that autocast does not convert, or leave bf16's precision behind. What
    fails in fp32 as well is not a fault of bf16.
    """
    fault = _step_fault(network, batch, "bf16")
    return fault if fault is None or _step_fault(network, batch, "fp32") is None else None


def _step_fault(network: nn.Module, batch: torch.Tensor, precision: Precision) -> str | None:
    """What is wrong with one training step of a copy, as a clause."""
    trial = copy.deepcopy(network).train()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loss = _backward(trial, batch, precision)
    except Exception as error:  # the network may be a user's own, which raises what it likes
        return f"a training step in {precision} fails ({first_line(error)})"
    if not bool(torch.isfinite(loss)):
        return f"the loss in {precision} is {loss.item()}"
    broken = [name for name, p in trial.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    return f"the gradient of '{broken[0]}' in {precision} is not finite" if broken else None


def step_seconds(network: nn.Module, batch: torch.Tensor) -> StepSeconds:
    """Time a few forward and backward passes on a copy of the network, the number formats in turns."""
    trial = copy.deepcopy(network).train()
    formats: tuple[Precision, Precision] = ("fp32", "bf16")
    for precision in formats:  # the first step of each pays for memory and code paths
        _step(trial, batch, precision)
    rounds = [[_step(trial, batch, precision) for precision in formats] for _ in range(PROBE_STEPS)]
    return StepSeconds(*map(min, zip(*rounds, strict=True)))


def _step(network: nn.Module, batch: torch.Tensor, precision: Precision) -> float:
    """Seconds of one forward and backward pass."""
    start = time.perf_counter()
    _backward(network, batch, precision)
    if batch.device.type == "cuda":
        torch.cuda.synchronize(batch.device)
    return time.perf_counter() - start


def _backward(network: nn.Module, batch: torch.Tensor, precision: Precision) -> torch.Tensor:
    """One forward and backward pass; returns the loss, as if all images were of the first class."""
    target = torch.zeros(len(batch), dtype=torch.long, device=batch.device)
    with autocast(batch.device, precision):
        loss = functional.cross_entropy(network(batch), target)
    torch.autograd.backward(loss)
    return loss.detach()


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context of a forward pass in ``precision``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
