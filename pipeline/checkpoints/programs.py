"""A saved exported program as a checkpoint: weights and network in one ``.pt2`` file."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from pathlib import Path

import msgspec
import torch
from torch.export import ExportedProgram

from edge_apps.errors import first_line
from edge_apps.runtime.preprocess import LARGEST_SIDE, Preprocess
from edge_apps.untrusted import MB
from pipeline.checkpoints import pt2_archive, user_networks
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.metadata import FORMAT, Given, Metadata, check, describe, metadata_of
from pipeline.errors import BadCheckpoint, BadInput
from pipeline.graphs.evaluation_mode import check_evaluation_mode
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.memory import peak_bytes
from pipeline.zoo.spec import ModelSpec

MOST_MEMORY = 400 * MB
"""Of the values that a program computes at a time."""


def load(path: Path, data: bytes, given: Given) -> Checkpoint:
    """Read a ``.pt2`` file; ``given`` is what the caller says of it, as ``load.load`` takes it.

    Raises:
        BadCheckpoint: not a program of one picture tensor, unsafe parts, another input size or class count than said.
    """
    program, about = pt2_archive.read(data, f"'{path}'")
    network, height, width = network_of(program, f"'{path}'")
    spec = _spec(user_networks.program_name(path), network, height)
    if about is not None:
        metadata = metadata_of(about, path)
        check(metadata, given, path)
        if not user_networks.is_foreign(metadata.model):
            raise BadCheckpoint(
                f"'{path}' says that it is '{metadata.model}', which is a name of the zoo: a program has its own."
            )
        spec = dataclasses.replace(spec, name=metadata.model, title=metadata.model)
    elif given.model is not None or given.options:
        raise BadCheckpoint(f"'{path}' brings its network along: leave `model` and its options out.")
    elif not given.labels:
        raise BadCheckpoint(f"'{path}' does not say what its classes are: give `labels`.")
    else:
        metadata = describe(spec, Preprocess(height=height, width=width), given)
        check(metadata, dataclasses.replace(given, model=None), path)
    geometry = metadata.preprocess
    if (geometry.height, geometry.width) != (height, width):
        raise BadCheckpoint(
            f"'{path}' takes pictures of {height}×{width}, not {geometry.height}×{geometry.width}: export the program "
            "again for another size."
        )
    state = network.state_dict()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise BadCheckpoint(f"'{path}' has weights that are NaN or infinite.")
    user_networks.check_logits(network, f"{path}", metadata.classes, geometry)
    return Checkpoint(
        path=path,
        sha256=metadata.made_from or hashlib.sha256(data).hexdigest(),
        content=data,
        describes_itself=about is not None,
        spec=spec,
        options={},
        labels=metadata.labels,
        preprocess=geometry,
        state=state,
        training=metadata.training,
    )


def save(program: ExportedProgram, checkpoint: Checkpoint) -> bytes:
    """A ``.pt2`` file of a checkpoint's network: what reads it needs no file of the user's."""
    metadata = Metadata(
        format=FORMAT,
        model=checkpoint.spec.name,
        options={},
        classes=len(checkpoint.labels),
        labels=checkpoint.labels,
        preprocess=checkpoint.preprocess,
        training=checkpoint.training,
        made_from=checkpoint.sha256,
    )
    return pt2_archive.write(program, msgspec.json.encode(metadata).decode())


def network_of(program: ExportedProgram, where: str) -> tuple[FlatNetwork, int, int]:
    """The program as a network, and the height and width of its input.

    A program that was captured for one batch takes any, if that changes nothing; else pictures go through one by one.

    Raises:
        BadCheckpoint: not one float32 ``[N, 3, H, W]`` in and one tensor out, or fixed to another batch than 1.
    """
    try:
        network = FlatNetwork(program)
        check_evaluation_mode(network, "call network.eval() before torch.export.export, and ")
    except BadInput as error:
        raise BadCheckpoint(f"{where}: {error}") from error
    given = next(node.meta["val"] for node in network.nodes if node.op == "placeholder")
    shape = list(given.shape) if isinstance(given, torch.Tensor) else []
    sides = [side for side in shape[1:] if isinstance(side, int)]
    if len(shape) != 4 or len(sides) != 3 or sides[0] != 3 or given.dtype != torch.float32:
        kind = f"{given.dtype} {shape}".removeprefix("torch.") if shape else type(given).__name__
        raise BadCheckpoint(
            f"{where} takes {kind}; one float32 picture tensor [N, 3, height, width] of fixed sides is needed."
        )
    if max(sides[1:]) > LARGEST_SIDE:
        raise BadCheckpoint(
            f"{where} takes images of {sides[1]}×{sides[2]}; a side may have at most {LARGEST_SIDE:,} pixels."
        )
    count = shape[0] if isinstance(shape[0], int) else 1
    _check_memory(network, (count, 3, sides[1], sides[2]), where)
    if isinstance(shape[0], int) and not _takes_any_batch(network, sides[1], sides[2]):
        if shape[0] != 1:
            raise BadCheckpoint(
                f"{where} takes exactly {shape[0]} pictures at once: export it with one, or with a dynamic batch."
            )
        network.batch = 1
    return network.eval(), sides[1], sides[2]


def _check_memory(network: FlatNetwork, shape: tuple[int, int, int, int], where: str) -> None:
    """Refuse a graph that would fill the memory when it is run: a few bytes of it can name a tensor of any size."""
    try:
        peak = peak_bytes(network, shape)
    except Exception as error:  # whatever torch raises of shapes that contradict each other
        raise BadCheckpoint(f"{where} is a graph that cannot be computed: {first_line(error)}.") from error
    if peak > MOST_MEMORY:
        raise BadCheckpoint(
            f"{where} takes {peak / MB:,.0f} MB for the values that it computes at a time; at most "
            f"{MOST_MEMORY // MB} MB are allowed. EfficientNet-B7 takes 207."
        )


def _takes_any_batch(network: FlatNetwork, height: int, width: int) -> bool:
    """Whether three pictures at once give what each gives alone."""
    pictures = torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            together = network(pictures)
            alone = torch.cat([network(pictures[i : i + 1]) for i in range(3)])
    except Exception:  # a fixed batch fails in whatever operator meets it first
        return False
    return together.shape == alone.shape and torch.allclose(together, alone, rtol=1e-3, atol=1e-4)


def _spec(name: str, network: FlatNetwork, height: int) -> ModelSpec:
    """A spec that builds this one network."""

    def builder(classes: int) -> FlatNetwork:
        del classes  # as many as it was exported with
        return copy.deepcopy(network)

    return ModelSpec(
        name=name, title=name, paper="", introduced="", builder=builder, smallest=height, input_size=height
    )
