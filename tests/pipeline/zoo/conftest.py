"""The source implementations that the zoo is compared with: torchvision and timm, from the ``dev`` extra."""

import contextlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


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
