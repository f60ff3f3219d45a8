"""What the target relies on in coremltools without its promise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import nn

from edge_apps.chatter import hushed

pytest.importorskip("coremltools")

from pipeline.compat.coremltools import RESCALING, read_program

Contract = Callable[[str, str], AbstractContextManager[None]]


def test_the_passes_that_change_scales_are_in_the_default_pipeline(contract: Contract) -> None:
    import coremltools as ct

    with contract("coremltools", "the names of its passes"):
        assert set(ct.PassPipeline.DEFAULT.passes) >= RESCALING


def test_a_package_is_read_back_into_a_program(contract: Contract, tmp_path: Path) -> None:
    import coremltools as ct

    program = torch.export.export(nn.Linear(8, 4).eval(), (torch.zeros(1, 8),)).run_decompositions({})
    path = tmp_path / "model.mlpackage"
    with hushed():
        ct.convert(program, minimum_deployment_target=ct.target.iOS17, skip_model_load=True).save(str(path))
    with contract("coremltools", "the reader of programs (mil.frontend.milproto)"):
        read = read_program(ct.models.MLModel(str(path), skip_model_load=True))
        kinds = [each.op_type for function in read.functions.values() for each in function.operations]
        assert "linear" in kinds
