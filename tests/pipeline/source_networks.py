"""The source implementations that the zoo is compared with: torchvision and timm, from the ``dev`` extra."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import nn


def _import_torchvision() -> None:
    """Import torchvision beside a CPU torch: its compiled operators do not load, and it asks for two of them."""
    import torch

    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # defined before, or by a torchvision that is whole
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    pytest.importorskip("torchvision", reason="torchvision is not installed: pip install '.[dev]'")


@pytest.fixture(scope="session")
def torchvision_models() -> ModuleType:
    """``torchvision.models``."""
    _import_torchvision()
    import torchvision.models

    return torchvision.models  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def timm_create() -> Callable[..., Any]:
    """``timm.create_model``."""
    _import_torchvision()  # timm imports it
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install '.[dev]'")
    return timm.create_model  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def enliven() -> Callable[[nn.Module], nn.Module]:
    """Batch-norm statistics and scales as a trained network has them, so that no error hides behind 0 and 1."""
    from torch import nn

    def enlivened(network: nn.Module) -> nn.Module:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
                nn.init.uniform_(module.weight, 0.5, 1)
                nn.init.uniform_(module.bias, -0.2, 0.2)
        return network.eval()

    return enlivened
