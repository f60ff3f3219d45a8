"""Rewrites of a captured network into the form that delegates take whole: one per file, each with its graph drawn.

``PASSES`` is the table of contents. A rewrite of a single operator is a line of ``operators.py``.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.rewrites.adaptive_maxima import plain_adaptive_maxima
from pipeline.graphs.rewrites.attention import write_attention
from pipeline.graphs.rewrites.batch_norms import fold_batch_norms
from pipeline.graphs.rewrites.casts import drop_idle_casts
from pipeline.graphs.rewrites.channel_arithmetic import fold_channel_arithmetic
from pipeline.graphs.rewrites.choices import blend_choices
from pipeline.graphs.rewrites.class_token import add_joined_constants
from pipeline.graphs.rewrites.constant_indices import pick_by_constants
from pipeline.graphs.rewrites.constant_products import constant_products_to_linear
from pipeline.graphs.rewrites.constants import fold_constants
from pipeline.graphs.rewrites.dropouts import drop_dropouts
from pipeline.graphs.rewrites.einsum import contract_einsums
from pipeline.graphs.rewrites.expansions import drop_expansions
from pipeline.graphs.rewrites.in_place_operators import make_functional
from pipeline.graphs.rewrites.instance_norms import instance_norms_as_batch_norms
from pipeline.graphs.rewrites.masked_writes import writes_by_mask
from pipeline.graphs.rewrites.matrix_products import batch_products
from pipeline.graphs.rewrites.maxima import plain_maxima
from pipeline.graphs.rewrites.means import means_of_planes
from pipeline.graphs.rewrites.merged_axes import merge_axes
from pipeline.graphs.rewrites.norms import rewrite_norms
from pipeline.graphs.rewrites.numbers import make_numbers_float
from pipeline.graphs.rewrites.operators import replace_operators, replace_patterns, reshape_operators
from pipeline.graphs.rewrites.output_padding import plain_transposed_convolutions
from pipeline.graphs.rewrites.patches import write_patches
from pipeline.graphs.rewrites.planes import to_planes
from pipeline.graphs.rewrites.same_padding import plain_paddings
from pipeline.graphs.rewrites.slice_writes import make_slice_writes_functional
from pipeline.graphs.rewrites.stacks import plain_stacks
from pipeline.graphs.rewrites.sums import plain_sums
from pipeline.graphs.rewrites.turns import plain_turns

PASSES: tuple[Callable[[FlatNetwork], None], ...] = (
    # A graph that writes into no tensor and computes nothing that is known in advance.
    drop_dropouts,
    make_functional,
    make_slice_writes_functional,
    fold_constants,
    # Operators by their plain names.
    plain_stacks,
    plain_sums,
    plain_maxima,
    plain_adaptive_maxima,
    drop_idle_casts,
    plain_turns,
    writes_by_mask,
    # Layers with weights in the forms that int8 kernels have, and what is folded into them.
    to_planes,
    plain_paddings,
    plain_transposed_convolutions,
    contract_einsums,
    drop_expansions,
    add_joined_constants,
    constant_products_to_linear,
    instance_norms_as_batch_norms,
    fold_batch_norms,
    fold_channel_arithmetic,
    # Operators that a runtime leaves outside its delegate, as ones that it takes.
    make_numbers_float,
    blend_choices,
    rewrite_norms,
    pick_by_constants,
    replace_patterns,
    replace_operators,
    # Tensors of any rank (tokens, heads, windows), in the forms of few axes that delegates take.
    write_attention,
    batch_products,
    means_of_planes,
    write_patches,
    reshape_operators,
    merge_axes,
)
"""Every rewrite of the whole network, in the order in which they run; each leaves the numbers as they are."""


def rewrite(network: FlatNetwork) -> None:
    """Rewrite a network as delegates take it whole.

    Raises:
        FreeSide: the network takes any batch, and rewriting needs the length of an axis along which images lie.
    """
    for run in PASSES:
        run(network)
