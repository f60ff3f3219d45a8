"""Operators on tensors of any rank (tokens, heads, windows), in the forms of few axes that delegates take."""

from __future__ import annotations

from pipeline.networks.attention import batch_products
from pipeline.networks.flat import FlatNetwork
from pipeline.networks.means import means_of_planes
from pipeline.networks.patches import write_patches
from pipeline.networks.reshaping import reshape


def rewrite_ranks(network: FlatNetwork) -> None:
    """Rewrite attention, means, patches and moves, in this order; each step computes the same."""
    batch_products(network)
    means_of_planes(network)
    write_patches(network)
    reshape(network)
