"""Dropout, which computes nothing in evaluation mode.

::

    x → dropout → y   →   x → y
"""

from __future__ import annotations

from pipeline.graphs.evaluation_mode import DROPOUTS
from pipeline.graphs.flat import FlatNetwork


def drop_dropouts(network: FlatNetwork) -> None:
    """Let the readers of each dropout read its input."""
    for node in network.nodes:
        if node.target in DROPOUTS:
            network.redirect(node, node.all_input_nodes[0])
