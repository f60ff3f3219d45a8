"""Networks on tokens, windows and sequences: rewritten, they compute the same in operators that delegates take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from calibration.recipe import Recipe
from calibration.tensor_keys import WEIGHTED, TensorKeys
from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of
from pipeline.graphs.prepare import prepare
from pipeline.graphs.rewrites.merged_axes import merged

SIZE = Preprocess(height=32, width=32)
LEFT_OUTSIDE = {
    "conv1d",
    "max_pool1d",
    "avg_pool1d",
    "adaptive_avg_pool1d",
    "batch_norm",
    "matmul",
    "mm",
    "addmm",
    "select",
    "unbind",
    "roll",
    "squeeze",
    "unsqueeze",
    "scaled_dot_product_attention",
    "im2col",
    "col2im",
    "expand",
}
"""Operators that no delegate takes as they are, or not in int8."""


class Body(nn.Module):
    """A patch embedding, a function of its map ``[N, 16, 8, 8]``, logits of all that comes out."""

    def __init__(self, function: Callable[..., torch.Tensor], *modules: nn.Module, **tensors: torch.Tensor) -> None:
        super().__init__()
        self.patch, self.function, self.modules_ = nn.Conv2d(3, 16, 4, 4), function, nn.ModuleList(modules)
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor))
        with torch.no_grad():
            width = self.function(torch.zeros(2, 16, 8, 8), *modules, **tensors).reshape(2, -1).shape[1]
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tensors = dict(self.named_parameters(recurse=False))
        y = self.function(self.patch(x), *self.modules_, **tensors)
        return self.head(y.reshape(x.shape[0], -1))


def lively(network: nn.Module) -> nn.Module:
    chance = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=chance) * 0.3)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=chance) + 0.3)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return network.eval()


def tokens(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).transpose(1, 2)


def heads(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(part.reshape(-1, 64, 2, 8).transpose(1, 2) for part in (tokens(x), tokens(x) * 0.5, tokens(x).relu()))


def attend(x: torch.Tensor, **options: Any) -> torch.Tensor:
    return functional.scaled_dot_product_attention(*heads(x), **options)


def joined(x: torch.Tensor, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    x = torch.cat([token.expand(x.shape[0], -1, -1), tokens(x)], 1)
    return (x + position.expand(x.shape[0], -1, -1))[:, 0]


def windows(x: torch.Tensor) -> torch.Tensor:
    x = torch.roll(x.permute(0, 2, 3, 1), (-2, -2), (1, 2))
    x = x.view(-1, 2, 4, 2, 4, 16).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 16, 16)
    return x.view(-1, 2, 2, 4, 4, 16).permute(0, 1, 3, 2, 4, 5).reshape(-1, 8, 8, 16)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


BODIES: dict[str, Callable[[], Body]] = {
    "conv1d": lambda: Body(
        lambda x, *c: c[2](c[1](c[0](x.flatten(2)))), nn.Conv1d(16, 8, 3), nn.ReLU(), nn.Conv1d(8, 4, 5, 2, 4, 2, 2)
    ),
    "conv1d, same": lambda: Body(
        lambda x, *c: c[1](c[0](x.flatten(2))),
        nn.Conv1d(16, 8, 4, padding="same"),
        nn.Conv1d(8, 4, 3, padding="same", bias=False),
    ),
    "conv1d, batch norm": lambda: Body(
        lambda x, *c: c[2](c[1](c[0](x.flatten(2)))), nn.Conv1d(16, 8, 3), nn.BatchNorm1d(8), nn.ReLU6()
    ),
    "channel attention": lambda: Body(
        lambda x, c: x * c(x.mean((2, 3)).unsqueeze(1)).squeeze(1).sigmoid()[:, :, None, None],
        nn.Conv1d(1, 1, 3, padding=1),
    ),
    "conv1d that is shared": lambda: Body(lambda x, c: c(c(x.flatten(2))), nn.Conv1d(16, 16, 3)),
    "1-d pooling": lambda: Body(
        lambda x, *c: torch.cat([m(x.flatten(2)) for m in c], 2),
        nn.MaxPool1d(3, 2, 1),
        nn.AvgPool1d(2),
        nn.AdaptiveAvgPool1d(4),
        nn.AdaptiveAvgPool1d(1),
    ),
    "batch norm of tokens": lambda: Body(
        lambda x, *c: c[1](c[0](tokens(x)).transpose(1, 2)).relu(), nn.Linear(16, 8), nn.BatchNorm1d(8)
    ),
    "batch norm of another axis": lambda: Body(
        lambda x, *c: c[1](c[0](tokens(x))), nn.Linear(16, 8), nn.BatchNorm1d(64)
    ),
    "batch norm of frames": lambda: Body(lambda x, c: c(x.view(-1, 4, 4, 8, 8).relu()), nn.BatchNorm3d(4)),
    "layer scale": lambda: Body(lambda x, c, scale: c(x.permute(0, 2, 3, 1)) * scale, nn.Linear(16, 8), scale=drawn(8)),
    "layer scale of a map": lambda: Body(
        lambda x, c, scale: scale * c(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        nn.Linear(16, 8, bias=False),
        scale=drawn(8, 1, 1),
    ),
    "a bias that is added": lambda: Body(
        lambda x, c, bias: c(tokens(x)) - bias, nn.Linear(16, 8, bias=False), bias=drawn(8)
    ),
    "products with weights": lambda: Body(
        lambda x, one, two, bias: torch.addmm(bias, (tokens(x) @ one).relu().reshape(-1, 8), two),
        one=drawn(16, 8),
        two=drawn(8, 4),
        bias=drawn(4),
    ),
    "a matrix on the left": lambda: Body(lambda x, w: torch.relu(w @ x.flatten(2)), w=drawn(8, 16)),
    "einsum": lambda: Body(
        lambda x, w: torch.einsum("nchw,cd->nhwd", x, w) - torch.einsum("nhwc, cd -> nhwd", x.permute(0, 2, 3, 1), w),
        w=drawn(16, 8),
    ),
    "a number": lambda: Body(lambda x, c: x + 0.2 * c(x) / 3, nn.Conv2d(16, 16, 1)),
    "class token": lambda: Body(joined, token=drawn(1, 1, 16) * 9, position=drawn(1, 65, 16)),
    "attention": lambda: Body(attend),
    "causal attention": lambda: Body(lambda x: attend(x, is_causal=True, scale=0.3)),
    "attention with a mask": lambda: Body(lambda x, mask: attend(x, attn_mask=mask), mask=drawn(2, 64, 64)),
    "a product of a tensor with itself": lambda: Body(lambda x: x @ x),
    "a product of one column": lambda: Body(
        lambda x, c: c(
            torch.matmul(x.flatten(2), x[:, :1].flatten(2).softmax(-1).transpose(1, 2)).reshape(-1, 16, 1, 1)
        ),
        nn.Conv2d(16, 4, 1),
    ),
    "a global context": lambda: Body(
        lambda x, c: x + (x.flatten(2).unsqueeze(1) @ c(x).flatten(2).softmax(2).unsqueeze(-1)).view(-1, 16, 1, 1),
        nn.Conv2d(16, 1, 1),
    ),
    "einsum of a tensor with itself": lambda: Body(lambda x: torch.einsum("...hw,...wk->...hk", x, x)),
    "attention of a tensor to itself": lambda: Body(lambda x: functional.scaled_dot_product_attention(x, x, x)),
    "attention in words": lambda: Body(
        lambda x: (heads(x)[0] @ heads(x)[1].transpose(-2, -1)).softmax(-1) @ heads(x)[2]
    ),
    "attention of a module": lambda: Body(
        lambda x, c: c(tokens(x), tokens(x), tokens(x), need_weights=False)[0],
        nn.MultiheadAttention(16, 2, batch_first=True),
    ),
    "attention, tokens in front": lambda: Body(
        lambda x, c: c(*[x.flatten(2).permute(2, 0, 1)] * 3, need_weights=False)[0].transpose(0, 1),
        nn.MultiheadAttention(16, 2),
    ),
    "attention with learned keys, and one of zeros": lambda: Body(
        lambda x, c: c(tokens(x), tokens(x), tokens(x))[0],
        nn.MultiheadAttention(16, 2, batch_first=True, add_bias_kv=True, add_zero_attn=True),
    ),
    "two joined constants": lambda: Body(
        lambda x, one, other: torch.cat(
            [torch.cat([tokens(x), one.expand(x.shape[0], -1, -1)], 1), other.expand(x.shape[0], -1, -1)], 1
        ),
        one=drawn(1, 1, 16),
        other=drawn(1, 2, 16),
    ),
    "windows": lambda: Body(windows),
    "patch merging": lambda: Body(
        lambda x: torch.cat([x[:, :, ::2, ::2], x[:, :, 1::2, ::2], x[:, :, ::2, 1::2], x[..., 1::2, 1::2]], 1)
    ),
    "parts": lambda: Body(
        lambda x: (
            torch.stack([a * b for a, b in [x.view(-1, 8, 2, 64).unbind(2)]], 1) + x.select(1, -1).reshape(-1, 1, 1, 64)
        )
    ),
    "patches": lambda: Body(
        lambda x: functional.fold(functional.unfold(x, (2, 4), stride=(2, 4)).relu(), (8, 8), (2, 4), stride=(2, 4))
    ),
    "patches that overlap": lambda: Body(lambda x: functional.unfold(x, 3, padding=1, stride=2)),
    "a context for each channel": lambda: Body(
        lambda x: (x * x.softmax(-1)).sum(-1, keepdim=True).expand_as(x) * x.relu()
    ),
    "means": lambda: Body(
        lambda x: (
            x.mean(1, keepdim=True)
            + x.mean((1, 3), keepdim=True)
            + tokens(x).mean(1)[:, :, None, None].mean(1, keepdim=True)
        )
    ),
    "mean of tokens in front": lambda: Body(lambda x: x.flatten(2).permute(2, 0, 1).mean(0)),
}


def rewritten(name: str) -> tuple[nn.Module, FlatNetwork]:
    torch.manual_seed(0)
    network = lively(BODIES[name]())
    return network, prepare(network, SIZE).network


@pytest.mark.parametrize("name", BODIES)
def test_the_same_in_operators_that_delegates_take(name: str) -> None:
    network, prepared = rewritten(name)
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert torch.allclose(network(x), prepared(x), atol=1e-5, rtol=1e-4)
    graph = graph_of(capture_images(ImageInput(prepared, SIZE).eval(), SIZE, prepared.batch))
    calls = [
        node
        for node in graph.graph.nodes
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)
    ]
    names = [node.target._schema.name.removeprefix("aten::") for node in calls]
    assert not LEFT_OUTSIDE & set(names)
    assert all(node.meta["val"].dim() <= 5 for node in calls if isinstance(node.meta["val"], torch.Tensor))
    assert all(
        list(node.args[1]) == [2, 3] and node.args[2] for node in calls if node.target == torch.ops.aten.mean.dim
    )
    keys = TensorKeys(graph, Recipe())
    layers = [node for node in calls if node.target in WEIGHTED]
    assert all(keys.is_quantized(layer) for layer in layers)


@pytest.mark.parametrize(
    "name",
    [
        "conv1d",
        "conv1d, batch norm",
        "conv1d that is shared",
        "batch norm of tokens",
        "batch norm of another axis",
        "layer scale",
        "layer scale of a map",
        "a bias that is added",
        "products with weights",
        "a matrix on the left",
        "einsum",
        "a number",
        "class token",
    ],
)
def test_rewritten_weights_follow_from_the_parameters(name: str) -> None:
    """Training computes with the rewritten weights, and learns those of the network."""
    network, prepared = rewritten(name)
    original = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    derived = prepared.derived(original)
    held = {**dict(prepared.named_parameters()), **dict(prepared.named_buffers())}
    assert derived.keys() >= {key for key, _ in prepared.named_parameters()}
    for key, value in derived.items():
        assert torch.allclose(value, held[key], atol=1e-6), key


def test_layer_scales_cost_no_operator() -> None:
    for name in ("a number", "layer scale", "layer scale of a map", "a bias that is added", "batch norm of tokens"):
        _, prepared = rewritten(name)
        targets = {str(node.target) for node in prepared.nodes}
        assert not targets & {"aten.mul.Tensor", "aten.sub.Tensor", "aten.batch_norm.default"}, name


def test_axes_that_stay_neighbours_are_one() -> None:
    assert merged((-1, 2, 4, 2, 4, 16), (0, 1, 3, 2, 4, 5)) == ((-1, 4, 2, 64), (0, 2, 1, 3))
    assert merged((-1, 16, 3, 2, 8), (2, 0, 3, 1, 4)) == ((-1, 16, 3, 2, 8), (2, 0, 3, 1, 4))
    x = torch.randn(6, 2, 4, 2, 4, 16)
    shape, order = merged(x.shape, (0, 1, 3, -4, 4, 5))
    assert torch.equal(x.reshape(shape).permute(order).flatten(), x.permute(0, 1, 3, 2, 4, 5).flatten())
