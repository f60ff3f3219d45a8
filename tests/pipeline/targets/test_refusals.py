"""What an exporter library says of a network that it does not take, in one line with the operator and its module."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.prepare import prepare
from pipeline.targets.executorch_kernels import check_kernels
from pipeline.targets.refusals import refusal

MLIR = (
    "Failed to run converter passes: /home/me/flat.py:23:0: error: failed to legalize operation 'mhlo.convolution' "
    'that was explicitly marked illegal: %89 = "mhlo.convolution"(%84, %88) <{batch_group_count = 1 : i64}> : '
    "(tensor<1x16x16x16xf32>, tensor<16x3x3x16xf32>) -> tensor<1x31x31x16xf32>"
)


class Called(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def flat(body: nn.Module) -> FlatNetwork:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return prepare(network.eval(), Preprocess(height=8, width=8)).network


@pytest.fixture(scope="module")
def upsampling() -> FlatNetwork:
    return flat(nn.ConvTranspose2d(4, 4, 2))


@pytest.fixture(scope="module")
def sorting() -> FlatNetwork:
    return flat(Called(lambda x: torch.sort(x.flatten(2), 2)[0].view_as(x)))


def test_a_graph_of_the_library_is_not_shown(upsampling: FlatNetwork) -> None:
    said = refusal(ValueError(MLIR), upsampling)
    assert "no form for 'mhlo.convolution' (aten.conv2d.default in '0'; aten.conv_transpose2d.input in '1')" in said
    assert "%" not in said
    assert "tensor<" not in said
    said = refusal(ValueError('cannot: %3 = "tfl.x"(%1) : (tensor<1xf32>)\nsecond line'), upsampling)
    assert said.endswith("failed with ValueError: cannot.")


@pytest.mark.parametrize(
    "text",
    [
        "Didn't find op for builtin opcode 'STABLEHLO_SORT' version '1'. An older version of this builtin might be",
        "Missing kernel: aten::sort.values",
        "Unsupported fx node sort_1, kind sort",
        "Lowering not found: aten.sort.default",
        "PyTorch convert function for op 'sort' not implemented.",
        "Missing out variants: {'aten::sort'}",
    ],
)
def test_the_operator_and_its_module_are_named(text: str, sorting: FlatNetwork) -> None:
    said = refusal(NotImplementedError(text), sorting)
    assert "(aten.sort.default in '1'). Write that layer with other operators, or leave this target" in said
    assert "\n" not in said


def test_complex_numbers_are_the_cause() -> None:
    said = refusal(RuntimeError("aten.abs has wrong dtype"), flat(Called(lambda x: torch.fft.rfft2(x).abs())))
    assert "the network computes with complex numbers (aten.fft_rfft2.default in '1')" in said


def test_executorch_lists_its_kernels() -> None:
    """A program that calls another would be written, and never load."""
    pytest.importorskip("executorch.extension.pybindings.portable_lib", reason="executorch is not installed")
    check_kernels(
        [SimpleNamespace(name="aten::avg_pool2d", overload="out"), SimpleNamespace(name="my::op", overload="")]
    )
    with pytest.raises(NotImplementedError, match=r"Missing kernel: aten::sort\.values"):
        check_kernels([SimpleNamespace(name="aten::sort", overload="values")])


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda x: torch.linalg.inv(x[:, :, :6, :6] + 10 * torch.eye(6)), "aten.linalg_inv_ex"),
        (lambda x: functional.bilinear(x, x, torch.ones(6, 6, 6)), "aten._trilinear"),
    ],
)
def test_an_operator_that_others_decompose_into_has_a_place(function: object, operator: str) -> None:
    said = refusal(RuntimeError(f"Missing out variants: {{'{operator}'}}"), flat(Called(function)))  # type: ignore[arg-type]
    assert f"no form for '{operator}' (in '1')" in said


def test_no_file_of_this_program_is_shown(upsampling: FlatNetwork) -> None:
    mlir = "Failed to run converter passes: /a/b-c/flat.py:33:0: error: 'tfl.mul' op operands don't have shapes"
    said = refusal(ValueError(mlir), upsampling)
    assert said.startswith("the exporter has no form for 'tfl.mul'.")
    said = refusal(ValueError("Failed: /a/b-c/flat.py:33:0: error: something else"), upsampling)
    assert said.endswith("failed with ValueError: Failed: something else.")


def test_half_precision_is_named() -> None:
    network = flat(Called(lambda x: functional.conv2d(x.half(), torch.ones(4, 4, 1, 1).half()).float()))
    said = refusal(ValueError("error: failed to legalize operation 'tfl.conv_2d' that"), network)
    assert "'tfl.conv_2d' in half precision, in which the network computes there (aten.conv2d.default in '1')" in said


def test_a_write_that_is_left_is_named() -> None:
    node = SimpleNamespace(op="call_function", target=torch.ops.aten.add_.Tensor, meta={"path": "3"})
    said = refusal(RuntimeError("Output node 'x' is already in the inputs"), SimpleNamespace(nodes=[node]))  # type: ignore[arg-type]
    assert said.startswith("the network writes into a part of a tensor (aten.add_.Tensor in '3') in a way")
