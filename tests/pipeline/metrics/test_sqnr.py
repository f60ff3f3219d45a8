"""The signal-to-noise ratio, by hand and at its edges."""

import math

import numpy as np
import pytest

from pipeline.errors import EdgeError
from pipeline.metrics.sqnr import sqnr_db

LOGITS = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)


def test_by_hand() -> None:
    """Two pictures, two classes: signal ±1 and ±2 about the means, noise ±0.1 in one class."""
    reference = np.array([[1.0, 7.0], [3.0, 3.0]])
    measured = reference + np.array([[0.1, 0.0], [-0.1, 0.0]])
    assert sqnr_db(reference, measured) == pytest.approx(10 * math.log10((1 + 1 + 4 + 4) / (0.01 + 0.01)))


def test_noise_of_a_known_share() -> None:
    noise = np.random.default_rng(1).normal(size=LOGITS.shape)
    noise -= noise.mean(0)
    signal = LOGITS - LOGITS.mean(0, dtype=np.float64)
    noise *= 0.01 * np.sqrt((signal**2).sum() / (noise**2).sum())
    assert sqnr_db(LOGITS.astype(np.float64), LOGITS + noise) == pytest.approx(40.0)


def test_an_offset_that_is_the_same_for_every_picture_is_invisible() -> None:
    reference = LOGITS.astype(np.float64)
    offset = np.array([100.0, -3.0, 0.0, 7.5, 1e3])
    measured = reference + 0.01 * reference[::-1]
    assert sqnr_db(reference, measured + offset) == pytest.approx(sqnr_db(reference, measured))
    assert sqnr_db(reference + offset, measured) == pytest.approx(sqnr_db(reference, measured))


def test_an_offset_flatters_neither_side() -> None:
    """Large equal offsets would make uncentred logits look alike."""
    unlike = np.random.default_rng(2).normal(size=LOGITS.shape)
    assert sqnr_db(LOGITS + 1000.0, unlike + 1000.0) < 0


def test_float32_logits_are_summed_in_float64() -> None:
    reference = LOGITS + np.float32(4096)
    step = np.float32(2**-11)  # one float32 step at 4096
    measured = reference.copy()
    measured[0, 0] += step
    centred = reference - reference.mean(0, dtype=np.float64)
    noise = float(step) ** 2 * (1 - 1 / 40)
    assert sqnr_db(reference, measured) == pytest.approx(10 * math.log10((centred**2).sum() / noise), rel=1e-6)


def test_agreement_is_infinite() -> None:
    assert sqnr_db(LOGITS, LOGITS) == math.inf


def test_a_reference_that_says_the_same_of_every_picture() -> None:
    assert sqnr_db(np.ones_like(LOGITS), LOGITS) == -math.inf


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_number_is_refused(value: float, place: int) -> None:
    pair = [LOGITS.copy(), LOGITS.copy()]
    pair[place][3, 2] = value
    with pytest.raises(EdgeError, match="NaN or infinity"):
        sqnr_db(*pair)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(EdgeError, match=r"Cannot compare logits \[40, 4\] with \[40, 5\]"):
        sqnr_db(LOGITS, LOGITS[:, :4])


def test_of_one_picture_nothing_is_removed() -> None:
    """It is its own mean: signal and noise would both be nothing, and every file equal to every network."""
    assert sqnr_db(np.array([[3.0, 4.0]]), np.array([[3.0, 4.5]])) == pytest.approx(10 * math.log10(25 / 0.25))
