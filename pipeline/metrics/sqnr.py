"""How near one network's logits are to another's."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EdgeError

ENOUGH_IMAGES = 32
"""Fewer pictures say too little; a comparison on fewer is marked as such."""

EQUAL_DB = 200.0
"""Beyond what float32 can tell apart; stands for infinity, which JSON does not know."""


def sqnr_db(reference: NDArray[np.floating], measured: NDArray[np.floating]) -> float:
    """Signal-to-quantization-noise ratio of logits ``[N, K]`` in decibels.

    Pooled over all images with the per-class mean over the images removed from both, because an offset that is the
    same for every picture says nothing about the pictures: 10 · log10(Σ s² / Σ (m − s)²). A single picture is its own
    mean; nothing is removed there. Infinite where both agree, minus infinity where only the reference says the same
    of every picture.

    Raises:
        EdgeError: NaN or infinite logits, or shapes that differ.
    """
    if reference.shape != measured.shape:
        raise EdgeError(f"Cannot compare logits {list(measured.shape)} with {list(reference.shape)}.")
    if not np.isfinite(reference).all() or not np.isfinite(measured).all():
        raise EdgeError("Logits contain NaN or infinity: the file computes nothing usable.")
    signal, noise = _without_mean(reference), _without_mean(measured) - _without_mean(reference)
    power = float((noise**2).sum())
    if power == 0:
        return math.inf
    ratio = float((signal**2).sum()) / power
    return 10 * math.log10(ratio) if ratio > 0 else -math.inf


def _without_mean(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    values = logits.astype(np.float64)
    return values - values.mean(0) if len(values) > 1 else values


def storable(decibels: float) -> float:
    """As JSON can hold them: two decimals, infinity as ``EQUAL_DB``."""
    return round(max(-EQUAL_DB, min(decibels, EQUAL_DB)), 2)
