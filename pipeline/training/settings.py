"""Everything that decides what a training gives: two runs with equal settings give equal weights."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from calibration.recipe import Recipe
from pipeline.errors import BadInput
from pipeline.zoo.spec import Value

Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["onecycle", "cosine"]
Precision = Literal["auto", "fp32", "bf16"]
Augmentation = Literal["none", "flip-crop", "crop", "affine"]

DEFAULT_LR: dict[Optimizer, float] = {"adamw": 3e-3, "sgd": 0.1}
QAT_LR: dict[Optimizer, float] = {"adamw": 1e-4, "sgd": 1e-3}
"""Of a network that is trained already: high enough to move a weight by some of its int8 steps."""
DEFAULT_WEIGHT_DECAY: dict[Optimizer, float] = {"adamw": 0.05, "sgd": 5e-4}


LARGEST_BATCH, SMALLEST_BATCH = 128, 8
STEPS = 4
"""Whole batches in an epoch that ``default_batch_size`` aims at, at least."""


def default_batch_size(images: int) -> int:
    """The batch size for so many training images: 128, or the power of two, from 8, that makes 4 steps an epoch.

    With 43 images a batch of 128 would be all of them: one step an epoch, too few for the weights and their averages.
    """
    size = LARGEST_BATCH
    while size > SMALLEST_BATCH and size * STEPS > images:
        size //= 2
    return size


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One training.

    ``data`` is the digest of pictures and labels, ``lr`` the highest learning rate; ``precision`` auto is decided
    before the first step, and the decision takes its place. ``weights`` is the published file that it starts from,
    whose name holds its hash. Quantization-aware training has a ``recipe``, whose int8 is simulated, and starts from
    the checkpoint with the sha256 ``qat``.
    """

    model: str
    options: dict[str, Value]
    input: int
    data: str
    epochs: int
    batch_size: int
    optimizer: Optimizer
    lr: float
    weight_decay: float
    schedule: Schedule
    label_smoothing: float
    ema: float
    seed: int
    augment: Augmentation
    precision: Precision
    weights: str | None = None
    qat: str | None = None
    recipe: Recipe | None = None


def check_same(asked: Settings, saved: Settings) -> None:
    """Refuse to go on with a training of other settings; the message names the first that differs."""
    have = _flat(saved)
    for name, want in _flat(asked).items():
        if want != have.get(name) and not (name == "precision" and want == "auto"):
            raise BadInput(
                f"The interrupted training has {name.replace('_', '-')} {have.get(name)}, asked is {want}: repeat its "
                "settings to resume it, or discard it with `restart`."
            )


def _flat(settings: Settings) -> dict[str, Any]:
    """All values by their names, a recipe's one by one."""
    values = msgspec.structs.asdict(settings)
    recipe: Recipe | None = values.pop("recipe")
    return values if recipe is None else values | {f"recipe {k}": v for k, v in msgspec.structs.asdict(recipe).items()}
