"""Convolutions and products that a converter or the quantizer does not know, as plain ones with the same numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from calibration.tensor_keys import WEIGHTED
from edge_apps.runtime.preprocess import Preprocess
from pipeline.checkpoints import pt2_archive
from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of
from pipeline.graphs.prepare import Prepared, prepare

SIDE = 12
INPUT = Preprocess(height=SIDE, width=SIDE)
aten: Any = torch.ops.aten


class Classifier(nn.Module):
    """A body between a convolution to 8 channels and the logits."""

    def __init__(self, body: nn.Module, features: int | None = None) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3, padding=1), body
        self.head = nn.Linear(features, 4) if features else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(self.stem(x))
        y = y.flatten(1) if self.head else y.mean((2, 3))
        return self.head(y) if self.head else y


class Call(nn.Module):
    """A function with weights."""

    def __init__(self, function: Any, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(shape)) for shape in shapes])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *self.weights)


def prepared(network: nn.Module) -> Prepared:
    """Prepare, and compare logits on noise: 1e-5 of the largest."""
    network = network.eval()
    found = prepare(network, INPUT)
    x = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, answered = network(x), found.network(x)
    assert answered.shape == expected.shape
    assert float((expected - answered).abs().max() / expected.abs().max()) <= 1e-5
    return found


def operators(found: Prepared) -> list[Any]:
    program = capture_images(ImageInput(found.network, INPUT).eval(), INPUT, found.network.batch)
    return [node.target for node in graph_of(program).graph.nodes if node.op == "call_function"]


PADDED = {
    "same": {"kernel_size": 3, "padding": "same"},
    "same, dilated": {"kernel_size": 3, "padding": "same", "dilation": 2},
    "same, even": {"kernel_size": 4, "padding": "same"},
    "same, one axis even": {"kernel_size": (4, 1), "padding": "same"},
    "same, even and dilated": {"kernel_size": (2, 4), "padding": "same", "dilation": (3, 1)},
    "same, grouped": {"kernel_size": 2, "padding": "same", "groups": 8},
    "valid": {"kernel_size": 3, "padding": "valid", "stride": 2},
    "same by reflection": {"kernel_size": 4, "padding": "same", "padding_mode": "reflect"},
}


@pytest.mark.parametrize("name", PADDED)
def test_padding_by_a_word_is_padding_by_numbers(name: str) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(8, 8, **PADDED[name]), nn.BatchNorm2d(8), nn.ReLU())
    body[1].running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    found = prepared(Classifier(body))
    used = operators(found)
    assert aten.conv2d.padding not in used
    assert used.count(aten.conv2d.default) == 2  # the batch norm is folded
    program, _ = pt2_archive.read(pt2_archive.write(found.original), "it")
    assert program.module(check_guards=False)(torch.zeros(1, 3, SIDE, SIDE)).shape == (1, 8)


TRANSPOSED = {
    "usual": {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    "no padding": {"kernel_size": 3, "stride": 2, "output_padding": 1},
    "large": {"kernel_size": 5, "stride": 4, "padding": 1, "output_padding": 3},
    "one axis": {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "output_padding": (1, 0)},
    "each its own way": {"kernel_size": 3, "stride": 3, "padding": (2, 0), "output_padding": (2, 1)},
    "dilated": {"kernel_size": 3, "stride": 2, "padding": 0, "dilation": 2, "output_padding": 1},
    "grouped, no bias": {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "groups": 4, "bias": False},
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_output_padding_is_written_without(name: str) -> None:
    torch.manual_seed(0)
    found = prepared(Classifier(nn.Sequential(nn.ConvTranspose2d(8, 8, **TRANSPOSED[name]), nn.ReLU())))
    for node in found.network.nodes:
        if node.target == aten.conv_transpose2d.input:
            assert list(node.args[5]) == [0, 0]  # type: ignore[arg-type, call-overload]


BEFORE = {
    "standardized, same": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 4, padding="same")),
    "normalized, output padding": lambda: nn.utils.parametrizations.weight_norm(
        nn.ConvTranspose2d(8, 8, 3, 2, output_padding=1)
    ),
    "one axis, output padding": lambda: nn.Sequential(
        nn.Flatten(2), nn.ConvTranspose1d(8, 8, 3, 2, 1, output_padding=1), nn.Unflatten(2, (2, SIDE * SIDE))
    ),
}


@pytest.mark.parametrize("name", BEFORE)
def test_weights_that_were_computed_before_are_taken(name: str) -> None:
    torch.manual_seed(0)
    used = operators(prepared(Classifier(BEFORE[name]())))
    assert not {aten.conv2d.padding, aten.conv_transpose1d.default} & set(used)


def einsum(equation: str, *shapes: tuple[int, ...]) -> nn.Module:
    return Call(lambda x, *weights: torch.einsum(equation, x, *weights), *shapes)


def reversed_einsum(equation: str, *shapes: tuple[int, ...]) -> nn.Module:
    return Call(lambda x, *weights: torch.einsum(equation, *weights, x), *shapes)


PLANES = 8 * SIDE * SIDE
LAYERS = {
    "1x1 convolution": (einsum("nchw,oc->nohw", (6, 8)), 6 * SIDE * SIDE, aten.conv2d.default),
    "weight first": (reversed_einsum("oc,nchw->nohw", (6, 8)), 6 * SIDE * SIDE, aten.conv2d.default),
    "over columns": (einsum("nchw,wo->ncho", (SIDE, 5)), 8 * SIDE * 5, aten.linear.default),
    "over two axes": (einsum("nchw,chk->nwk", (8, SIDE, 5)), SIDE * 5, aten.linear.default),
    "to two axes": (einsum("nchw,wab->nabch", (SIDE, 2, 3)), 2 * 3 * 8 * SIDE, aten.linear.default),
    "no arrow": (einsum("abcd,de", (SIDE, 5)), 8 * SIDE * 5, aten.linear.default),
    "ellipsis": (einsum("...w,ow->...o", (5, SIDE)), 8 * SIDE * 5, aten.linear.default),
    "spaces, and an axis added up": (einsum("n c h w, o c -> n o h", (6, 8)), 6 * SIDE, aten.linear.default),
    "matmul": (Call(lambda x, w: x.flatten(2) @ w, (SIDE * SIDE, 5)), 8 * 5, aten.linear.default),
    "transposed matmul": (Call(lambda x, w: x.flatten(2) @ w.t(), (5, SIDE * SIDE)), 8 * 5, aten.linear.default),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_product_with_a_constant_is_a_layer(name: str) -> None:
    torch.manual_seed(0)
    body, features, operator = LAYERS[name]
    found = prepared(Classifier(body, features))
    used = operators(found)
    assert operator in used
    assert aten.einsum.default not in used
    assert aten.matmul.default not in used
    assert sum(target in WEIGHTED for target in used) == 3  # the stem, this, the head
    held = dict(found.network.named_parameters())
    same = found.network.derived({**found.original.constants, **dict(found.original.state_dict)})
    assert all(torch.allclose(tensor, same[path]) for path, tensor in held.items())


PRODUCTS = {
    "attention": ("nchw,nchv->ncwv", 8 * SIDE * SIDE),
    "over two axes": ("nchw,ndhw->ncd", 64),
    "elementwise": ("nchw,nchw->nchw", PLANES),
    "outer": ("nchw,ndhv->ncwdv", 8 * SIDE * 8 * SIDE),
    "all": ("nchw,nchw->nc", 8),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_of_two_activations_is_a_matrix_product(name: str) -> None:
    equation, features = PRODUCTS[name]
    found = prepared(Classifier(Call(lambda x: torch.einsum(equation, x, x.flip(1))), features))
    assert aten.einsum.default not in operators(found)


SINGLE = {"nchw->nhcw": PLANES, "nchw->nc": 8, "nchw->nwc": SIDE * 8, "nchw": PLANES}


@pytest.mark.parametrize("equation", SINGLE)
def test_an_einsum_of_one_tensor_is_its_axes(equation: str) -> None:
    wide = math.prod((8, SIDE, SIDE)) if equation == "nchw" else SINGLE[equation]
    arrow = equation if "->" in equation else "nchw->nchw"
    found = prepared(Classifier(Call(lambda x: torch.einsum(arrow, x)), wide))
    assert aten.einsum.default not in operators(found)


def test_what_is_no_plain_product_stays_and_can_be_kept() -> None:
    """A letter twice in one tensor takes a diagonal."""
    found = prepared(Classifier(Call(lambda x: torch.einsum("nchh->nch", x)), 8 * SIDE))
    assert aten.einsum.default in operators(found)
    pt2_archive.read(pt2_archive.write(found.program if hasattr(found, "program") else found.original), "it")
