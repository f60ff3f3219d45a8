"""Operators on tensors of any rank (tokens, heads, windows), in the forms of few axes that delegates take."""

from __future__ import annotations

from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.rewrites.attention import batch_products
from pipeline.graphs.rewrites.means import means_of_planes
from pipeline.graphs.rewrites.patches import write_patches
from pipeline.graphs.rewrites.reshaping import reshape


def rewrite_ranks(network: FlatNetwork) -> None:
    """Rewrite attention, means, patches and moves, in this order; each step computes the same."""
    batch_products(network)
    means_of_planes(network)
    write_patches(network)
    reshape(network)
