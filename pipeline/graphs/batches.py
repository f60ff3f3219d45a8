"""Whether a network answers each image of a batch as it answers it alone.

A device classifies one image at a time. A network that reshapes to one row (``x.view(1, -1)``) or that computes with
the other images of a batch (``x - x.mean(0)``) is captured, calibrated and compared with batches of one.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.fx import Interpreter, Node

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.flat import FlatNetwork

IMAGES = 3

SAME = 1e-6
"""Of the largest logit. The same images in the same places of batches of one size give the same bits."""

BatchUse = Literal["any", "one", "mixed"]


class Batches(NamedTuple):
    """Two batches of noise with the same first image and other images behind it."""

    one: torch.Tensor
    other: torch.Tensor

    @classmethod
    def of(cls, preprocess: Preprocess) -> Batches:
        """Draw them, normalised float32 ``[3, 3, H, W]``."""
        chance = torch.Generator().manual_seed(0)
        one, other = torch.randn(2, IMAGES, 3, preprocess.height, preprocess.width, generator=chance)
        return cls(one, torch.cat([one[:1], other[1:]]))


def batch_use(network: nn.Module, preprocess: Preprocess) -> BatchUse:
    """Return how a network in evaluation mode takes batches.

    ``any``: as many images as are given, each for itself. ``one``: it fails on several, or gives another number of
    answers. ``mixed``: the answer to an image depends on those beside it.
    """
    if isinstance(network, FlatNetwork) and network.batch is not None:
        network = copy.copy(network)  # it gives them to its graph one by one
        network.batch = None
    batches = Batches.of(preprocess)
    try:
        with torch.no_grad():
            one, other = network(batches.one), network(batches.other)
    except Exception:  # a fixed batch fails in whatever operator meets it first
        return "one"
    if not isinstance(one, torch.Tensor) or one.shape[:1] != (IMAGES,):
        return "one"
    return "any" if _same(one, other) else "mixed"


def first_mixing(network: FlatNetwork, preprocess: Preprocess) -> Node | None:
    """Return the first operator that gives one image another value where others stand beside it."""
    batches = Batches.of(preprocess)
    walks = [_Values(network) for _ in batches]
    with torch.no_grad():
        for walk, batch in zip(walks, batches, strict=True):
            walk.run(batch)
    for node in network.nodes:
        one, other = (walk.found.get(node) for walk in walks)
        if one is not None and other is not None and not _same(one, other):
            return node
    return None


class _Values(Interpreter):
    """Runs a graph and keeps the tensors that have one entry for each image."""

    def __init__(self, network: FlatNetwork) -> None:
        super().__init__(network, graph=network.graph)
        self.found: dict[Node, torch.Tensor] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        per_image = isinstance(value, torch.Tensor) and value.is_floating_point() and value.shape[:1] == (IMAGES,)
        if n.op == "call_function" and per_image:
            self.found[n] = value.clone()
        return value


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether the first image has the same values in both, NaN included."""
    a, b = one[0].double(), other[0].double()
    largest = float(torch.nan_to_num(a, posinf=0, neginf=0).abs().max()) if a.numel() else 0.0
    return bool(torch.allclose(a, b, rtol=0, atol=SAME * max(largest, 1e-30), equal_nan=True))
