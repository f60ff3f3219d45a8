"""From any network to the one that devices get: captured, rewritten, folded, and shown to compute the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from edge_apps.chatter import hushed
from edge_apps.errors import first_line
from edge_apps.runtime.preprocess import Preprocess
from pipeline.errors import BadInput, LoweringFailed
from pipeline.graphs.batches import batch_use, first_mixing
from pipeline.graphs.blame import where_failed
from pipeline.graphs.evaluation_mode import check_evaluation_mode, place
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.foreign_operators import check_operators
from pipeline.graphs.rewrites import rewrite
from pipeline.graphs.shapes import FreeSide

LARGEST_BATCH = 4096

LARGEST_DIFFERENCE = 1e-3
"""Of the rewritten network's logits, relative to the largest: −60 dB, far above what float32 rounds."""


@dataclass(frozen=True)
class Prepared:
    """A network for devices, and the exported program of the one that it was made of.

    ``mixing`` is as in ``Exported``.
    """

    network: FlatNetwork
    original: ExportedProgram
    mixing: str | None = None


class Exported(NamedTuple):
    """A program, and how it takes batches.

    ``batch`` is None where any number of images is taken, else 1. ``mixing`` is the operator by which the answer to an
    image depends on those beside it, with its module, or "" where that is not known; None where no image depends on
    another.
    """

    program: ExportedProgram
    batch: int | None
    mixing: str | None


def prepare(network: nn.Module, preprocess: Preprocess, example: torch.Tensor | None = None) -> Prepared:
    """The network in evaluation mode as a flat graph with batch norms folded, in the form that delegates take whole.

    The network itself is left alone. Module paths stay, so that ranges and recipes name the same layers. ``example``
    is a normalised picture ``[1, 3, H, W]`` that both are compared on; noise will do for most networks, but in some
    it makes float32 itself differ from float64 by percents.

    Raises:
        BadInput: a network that cannot be captured, with what stands in the way. LoweringFailed: the rewritten
            network gives other logits, which is a fault of this program.
    """
    captured = export_network(network, preprocess)
    try:
        prepared = _rewritten(captured)
    except FreeSide:
        captured = export_network(network, preprocess, one_image=True)
        prepared = _rewritten(captured)
    _check_same(network, prepared, _noise(preprocess) if example is None else example)
    return Prepared(prepared.eval(), captured.program, captured.mixing)


def _rewritten(captured: Exported) -> FlatNetwork:
    """Return a copy of the program in the form that delegates take whole.

    Raises:
        FreeSide: it takes any batch, and rewriting needs the length of an axis along which images lie.
    """
    prepared = FlatNetwork(captured.program, captured.batch)
    check_operators(prepared)
    check_evaluation_mode(prepared)
    rewrite(prepared)
    return prepared


def export_network(network: nn.Module, preprocess: Preprocess, *, one_image: bool = False) -> Exported:
    """Return the exported program of the float network.

    It is captured for any batch if every image has its own answer there, else, or with ``one_image``, for batches of
    one.
    """
    was_training = network.training
    network.eval()
    try:
        with hushed(), torch.no_grad():
            use = batch_use(network, preprocess)
            whole = _captured(network, preprocess, free=True)
            if whole is not None and use == "any" and not one_image:
                return Exported(whole, None, None)
            single = _captured(network, preprocess, free=False)
    except Exception as error:
        raise BadInput(
            f"The network cannot be captured by torch.export ({type(error).__name__}: {first_line(error)})"
            f"{where_failed(error, network)}. {_advice(error)}See docs/own-network.md.",
            traceback_helps=not _depends_on_values(error),
        ) from error
    finally:
        network.train(was_training)
    assert single is not None
    return Exported(single, 1, _mixing_operator(whole, preprocess) if use == "mixed" else None)


def _captured(network: nn.Module, preprocess: Preprocess, *, free: bool) -> ExportedProgram | None:
    """The program for batches of any size, None if there is none; or for one image."""
    shape = (3, preprocess.height, preprocess.width)
    if not free:
        return export(network, (torch.zeros(1, *shape),), strict=False)
    sizes = ({0: Dim("batch", min=1, max=LARGEST_BATCH)},)
    try:
        return export(network, (torch.zeros(2, *shape),), dynamic_shapes=sizes, strict=False)
    except Exception:  # whatever the network makes torch raise: it may still take single images
        return None


def _mixing_operator(program: ExportedProgram | None, preprocess: Preprocess) -> str:
    node = None if program is None else first_mixing(FlatNetwork(program), preprocess)
    return "" if node is None else f"'{node.target}' {place(node)}"


def _advice(error: Exception) -> str:
    """Return what helps a network that torch.export refuses, as far as that is known."""
    if not _depends_on_values(error):
        return ""
    return (
        "A path that depends on the values of an image cannot be exported: compute every path, and choose between "
        "their results with torch.where. "
    )


def _depends_on_values(error: Exception) -> bool:
    return "data-dependent" in str(error) or "data dependent" in str(error).lower()


def _noise(preprocess: Preprocess) -> torch.Tensor:
    chance = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, preprocess.height, preprocess.width, generator=chance)


def _check_same(network: nn.Module, prepared: FlatNetwork, example: torch.Tensor) -> None:
    """Rewriting an arbitrary graph deserves a look at its result, each time."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        expected, answered = network(example), prepared(example)
    network.train(was_training)
    if not bool(torch.isfinite(expected).all()):
        return  # weights that blow up: calibration says so, in better words
    difference = (expected - answered).abs().max() / expected.abs().max().clamp(min=1e-30)
    if expected.shape != answered.shape or not difference <= LARGEST_DIFFERENCE:
        raise LoweringFailed(
            f"The network as rewritten for devices gives logits that differ by {float(difference):.1e} of the largest "
            f"(at most {LARGEST_DIFFERENCE:g}): this is a fault of the program, please report it with the network."
        )
