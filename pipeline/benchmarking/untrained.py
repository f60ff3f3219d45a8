"""A network that nobody trained, as a bundle: enough to measure size, arithmetic, delegation and latency."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from calibration.recipe import Recipe
from edge_apps.images import ImageSet
from edge_apps.runtime.manifest import Bundle
from edge_apps.runtime.precisions import Precision
from edge_apps.runtime.preprocess import Preprocess, to_batch
from pipeline import targets
from pipeline.checkpoints import checkpoint
from pipeline.checkpoints.load import load
from pipeline.exporting.job import ExportJob
from pipeline.exporting.write import build
from pipeline.graphs.normalise import Normalise
from pipeline.metrics.sqnr import ENOUGH_IMAGES
from pipeline.zoo.spec import ModelSpec, Value

BATCH = 8


@contextmanager
def untrained_bundle(
    spec: ModelSpec,
    options: Mapping[str, Value],
    size: int,
    images: ImageSet,
    precisions: Sequence[Precision] = ("fp32", "int8"),
) -> Iterator[Bundle]:
    """Export random weights to every target in the precisions that it can do; the bundle is gone afterwards.

    Its labels are numbers, as many as the model has by default. Batch norms get the statistics of the pictures,
    without which the logits of a deep network would be 1e-9 and every comparison would pass.
    """
    preprocess = Preprocess(height=size, width=size)
    recipe = Recipe(images=ENOUGH_IMAGES)
    torch.manual_seed(recipe.seed)
    network = spec.build(None, **options)
    chosen = [images.image(index) for index in range(0, len(images), max(1, len(images) // ENOUGH_IMAGES))]
    enliven(network, to_batch(chosen[:ENOUGH_IMAGES], preprocess), preprocess)
    with tempfile.TemporaryDirectory(prefix="edge-benchmark-") as folder:
        path = Path(folder) / f"{spec.name}.safetensors"
        labels = tuple(str(index) for index in range(spec.classes))
        checkpoint.save(path, network, spec=spec, options=options, labels=labels, preprocess=preprocess, training={})
        del network
        files = [
            (target, precision)
            for target in targets.choose_targets(["all"])
            for precision in precisions
            if precision in target.precisions
        ]
        job = ExportJob(load(path), files, images, recipe, Path(folder) / "bundle", stop_on_mismatch=False)
        yield build(job)


def enliven(network: nn.Module, pictures: object, preprocess: Preprocess) -> nn.Module:
    """Give every batch norm the mean and variance that uint8 ``[N, H, W, 3]`` pictures have there; the network, eval.

    Only the batch norms are in training mode: dropout and stochastic depth stay out of it.
    """
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over the batches
        norm.train()
    normalise = Normalise(preprocess)
    batches = torch.split(torch.as_tensor(pictures), BATCH)
    with torch.no_grad():
        for batch in batches if norms else ():
            network(normalise(batch))
    return network.eval()
