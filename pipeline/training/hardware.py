"""Where a training computes, and in which number format."""

from __future__ import annotations

import copy
import time

import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import BadInput
from pipeline.training.settings import Precision

PROBE_STEPS = 3


def choose_device(asked: str) -> torch.device:
    """``auto`` takes a GPU where there is one; ``BadInput`` where ``cuda`` is asked for and there is none."""
    present = torch.cuda.is_available()
    if asked == "cuda" and not present:
        raise BadInput("Device 'cuda' was asked for, but torch sees no GPU here: use --device cpu or auto.")
    return torch.device("cuda" if present and asked != "cpu" else "cpu")


def choose_precision(network: nn.Module, batch: torch.Tensor) -> tuple[Precision, str]:
    """The faster training precision for this network on the device where ``batch`` (float ``[N, 3, H, W]``) is.

    A GPU with bfloat16 uses it. A CPU with bfloat16 instructions gains on dense convolutions and loses on depthwise
    ones, so both are timed for a few steps on a copy. Returns the choice and its reason.
    """
    if batch.device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "the GPU has it"
        return "fp32", "the GPU has no bf16"
    if not cpu_has_bf16():
        return "fp32", "this CPU has no bf16 instructions"
    fp32, bf16 = step_seconds(network, batch, "fp32"), step_seconds(network, batch, "bf16")
    chosen: Precision = "bf16" if bf16 < fp32 else "fp32"
    return chosen, f"timed: fp32 {1000 * fp32:.0f} ms, bf16 {1000 * bf16:.0f} ms a step"


def cpu_has_bf16() -> bool:
    """Whether the CPU computes bfloat16 products in hardware."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def step_seconds(network: nn.Module, batch: torch.Tensor, precision: Precision) -> float:
    """Seconds of the fastest of a few forward and backward passes on a copy of the network."""
    trial = copy.deepcopy(network).train()
    target = torch.zeros(len(batch), dtype=torch.long, device=batch.device)
    times = []
    for _ in range(1 + PROBE_STEPS):  # the first one pays for memory and code paths
        start = time.perf_counter()
        with autocast(batch.device, precision):
            loss = functional.cross_entropy(trial(batch), target)
        torch.autograd.backward(loss)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context of a forward pass in ``precision``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
