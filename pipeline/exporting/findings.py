"""What export says of a network, once for all its files: mixing, collapsed, untrained, or damaged by int8."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from calibration.algorithms.repairs import with_values
from pipeline.exporting.file_check import LOSS_AGREEMENT, LOSS_DB, int8_loss
from pipeline.exporting.references import References
from pipeline.metrics.guessing import explained_by_guessing
from pipeline.quantization.calibrate import Calibration
from pipeline.quantization.one_by_one import OneByOne, most_damaged_layer

LAYER_IMAGES = 16
"""Enough to name the layer that int8 damages most."""


def network_findings(
    references: References, calibration: Calibration | None, classes: Sequence[str], step: Callable[[], None]
) -> tuple[str, ...]:
    """Return a sentence for each thing to know of the network itself; none of a trained one that int8 serves well.

    ``classes`` are the network's labels by the names that the judged images have for them. ``calibration`` is None
    where no file is int8; ``step`` is called before what takes long.
    """
    of_batches = () if references.captured.mixing is None else (_mixing(references.captured.mixing),)
    return (*of_batches, *_of_logits(references, calibration, classes, step))


def _mixing(operator: str) -> str:
    seen = f" (first seen at {operator})" if operator else ""
    return (
        f"The network mixes the images of a batch{seen}: its answer to one depends on the others. A device classifies "
        "one image at a time, so it was captured and compared with batches of one; accuracy that was measured on "
        "larger batches does not hold there."
    )


def _of_logits(
    references: References, calibration: Calibration | None, classes: Sequence[str], step: Callable[[], None]
) -> tuple[str, ...]:
    if references.collapsed:
        return (
            "The network has collapsed: over the judged images its logits vary by only "
            f"{references.spread:.0e} of the largest one, so that its answer hardly depends on the image and decibels "
            "mean nothing. Check the weights.",
        )
    loss = None if calibration is None else int8_loss(references)
    if calibration is None or loss is None:
        return ()
    said = (
        f"int8 against float: {loss} on {len(references.judged)} images; below {LOSS_DB:g} dB or "
        f"{100 * LOSS_AGREEMENT:.0f} % it needs a look."
    )
    guessing = _at_chance(references, classes)
    if guessing is not None:
        return (f"{said} {guessing}",)
    step()
    graph = with_values(references.captured.graph(), calibration.repairs.scaled)
    walk = OneByOne(graph, references.quantized_graph, calibration.ranges)
    damaged = most_damaged_layer(walk, references.judged.pixels[:: max(1, len(references.judged) // LAYER_IMAGES)])
    layer = "" if damaged is None else f" Most damaged layer: {damaged[0]} ({damaged[1]:.1f} dB)."
    return (f"{said}{layer}",)


def _at_chance(references: References, classes: Sequence[str]) -> str | None:
    """Say how often the float network is right, where guessing would be right as often: it was not trained."""
    index = {name: number for number, name in enumerate(classes)}
    pairs = zip(references.judged.classes, references.float32.argmax(axis=1), strict=False)
    right = [index[name] == predicted for name, predicted in pairs if name in index]
    if not right or len(classes) < 2:
        return None
    if not explained_by_guessing(sum(right), len(right), 1 / len(classes)):
        return None
    return (
        f"The float network itself is right on {sum(right)} of {len(right)} images, as guessing would be: train it "
        "first, figures of an untrained network say little."
    )
