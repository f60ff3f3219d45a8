"""Trainings of a few steps: settings and jobs of which a test names what it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edge_apps.images import ImageSet
    from pipeline.training.job import Job
    from pipeline.training.settings import Settings


@pytest.fixture(scope="session")
def settings() -> Callable[..., Settings]:
    """``settings(name=value, …)``; the others are those of a narrow MobileNetV2 at 32×32."""
    from pipeline.training.settings import Settings

    values: dict[str, Any] = {
        "model": "mobilenet_v2",
        "options": {"width": 0.1},
        "input": 32,
        "data": "",
        "epochs": 2,
        "batch_size": 8,
        "optimizer": "adamw",
        "lr": 3e-3,
        "weight_decay": 0.05,
        "schedule": "onecycle",
        "label_smoothing": 0.1,
        "ema": 0.9,
        "seed": 0,
        "augment": "none",
        "precision": "fp32",
    }
    return lambda **changes: Settings(**{**values, **changes})


@pytest.fixture(scope="session")
def job(settings: Callable[..., Settings]) -> Callable[..., Job]:
    """``job(folder, out, name=value, …)``: as ``pipeline train`` makes it of a folder of pictures and of settings."""
    import torch
    from msgspec.structs import replace

    from edge_apps.images import open_images
    from pipeline import zoo
    from pipeline.data.reading import digest
    from pipeline.training.job import Job

    def made(
        folder: Path,
        out: Path,
        *,
        val: ImageSet | None = None,
        skipped: tuple[str, ...] = (),
        dtype: torch.dtype = torch.float32,
        **changes: Any,
    ) -> Job:
        data = open_images(folder)
        chosen = settings(data=digest(data), **changes)
        spec = zoo.get(chosen.model)
        return Job(
            spec=spec,
            settings=replace(chosen, options=spec.with_defaults(chosen.options)),
            data=data,
            val=val,
            out=out,
            dtype=dtype,
            device="cpu",
            restart=False,
            skipped=skipped,
            command="pipeline train …",
        )

    return made


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Equal bits need equal thread counts."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
