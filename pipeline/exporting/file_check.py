"""The verdict on an exported file: whether it computes the network that it was made of.

========== ========================================== =====================================================
precision  held against                               bad
========== ========================================== =====================================================
fp32       the float network                          below 60 dB, and more than 6 dB below torch's float32
fp16       the float network                          below 40 dB, and more than 6 dB below torch's float16
int8       its own quantized graph, simulated         not equal; with operators in float, below 40 dB
int8-weights  the float network with rounded weights  below 60 dB
========== ========================================== =====================================================

What torch's float32 and float16 lose is measured against float64 on the same images: there are networks in which any
order of summation gives other digits, and a file can be no better than the arithmetic. Whether int8 itself loses too
much is another question, which the same figures for every file answer (``int8_loss``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edge_apps.runtime.manifest import FileComparison, Word
from edge_apps.runtime.precisions import Precision
from pipeline.exporting.float16 import overflow
from pipeline.exporting.references import References
from pipeline.metrics.paired import agreement
from pipeline.metrics.sqnr import ENOUGH_IMAGES, sqnr_db, storable

FLOAT_DB = {"fp32": 60.0, "fp16": 40.0}
"""What a float file reaches against the float network where the network is well conditioned."""

ARITHMETIC_DB = 6.0
"""A float file may be this much further from float64 than torch's own arithmetic of its precision."""

GRAPH_DB = 40.0
"""What an int8 file with operators in float reaches against its own quantized graph."""

ROUNDED_DB = 60.0
"""What an int8-weights file reaches against the float network with rounded weights."""

LOSS_DB, LOSS_AGREEMENT = 15.0, 0.95
"""Below either, int8 is worth a look: its files may be what they should be and still be of little use."""


@dataclass(frozen=True)
class Reached:
    """How near one network's logits are to another's: SQNR in dB, and the share of images put into the same class."""

    decibels: float
    agreement: float

    def __str__(self) -> str:
        """Return ``31.2 dB, 97 % agreement``, with a true minus."""
        return f"{self.decibels:.1f} dB, {100 * self.agreement:.0f} % agreement".replace("-", "−")


def not_run(reason: str, precision: Precision, references: References) -> FileComparison:
    """Return the comparison of a file that this machine cannot run, with what torch says of its arithmetic."""
    finding = _overflow(references) if precision == "fp16" else None
    return FileComparison(
        status="not run",
        reason=reason,
        judged_on=None if finding is None else references.judged.on,
        images=0 if finding is None else len(references.judged),
        word=None if finding is None else "bad",
        findings=() if finding is None else (finding,),
    )


def check(logits: NDArray[np.float32], runtime: str, precision: Precision, references: References) -> FileComparison:
    """Judge a file by its logits ``[N, K]`` on the judged images."""
    judged = references.judged
    comparison = FileComparison(
        status="run",
        runtime=runtime,
        judged_on=judged.on,
        images=len(judged),
        enough_images=len(judged) >= ENOUGH_IMAGES,
        collapsed=references.collapsed,
    )
    if not np.isfinite(logits).all():
        why = _overflow(references) if precision == "fp16" else None
        return replace(comparison, word="bad", findings=("gives logits that are NaN or infinite", *filter(None, [why])))
    own = _own(logits, precision, references)
    against_float = _reached(references.float32, logits)
    word, finding = _judge(logits, precision, references, own, against_float)
    if word == "good" and (references.collapsed or (precision.startswith("int8") and _is_loss(against_float))):
        word = "check"
    return replace(
        comparison,
        sqnr_float_db=storable(against_float.decibels),
        agreement_float=against_float.agreement,
        sqnr_graph_db=None if own is None else storable(own.decibels),
        agreement_graph=None if own is None else own.agreement,
        word=word,
        findings=() if finding is None else (finding,),
    )


def int8_loss(references: References) -> Reached | None:
    """Return what int8 keeps of the float network where that is little, else None; the same for all int8 files."""
    reached = _reached(references.float32, references.simulated)
    return reached if _is_loss(reached) and not references.collapsed else None


def _judge(
    logits: NDArray[np.float32], precision: Precision, references: References, own: Reached | None, float_: Reached
) -> tuple[Word, str | None]:
    if own is None:
        return _judge_float(logits, precision, references, float_)
    if precision == "int8" and not references.float_operators:
        if np.array_equal(logits, references.simulated):
            return "good", None
        return "bad", f"reaches {own} with its own quantized graph; computed in integers, it should be equal"
    least = GRAPH_DB if precision == "int8" else ROUNDED_DB
    reference = references.simulated if precision == "int8" else references.rounded_weights
    if _sqnr(reference, logits, references) >= least:
        return "good", None
    graph = "its own quantized graph" if precision == "int8" else "the float network with its rounded weights"
    return "bad", f"reaches {own} with {graph}; it should reach {least:g} dB"


def _judge_float(
    logits: NDArray[np.float32], precision: Precision, references: References, reached: Reached
) -> tuple[Word, str | None]:
    least = FLOAT_DB[precision]
    if _sqnr(references.float32, logits, references) >= least:
        return "good", None
    arithmetic = references.float32 if precision == "fp32" else references.float16
    name = "float32" if precision == "fp32" else "float16"
    of_torch = _sqnr(references.float64, arithmetic, references)
    if _sqnr(references.float64, logits, references) >= of_torch - ARITHMETIC_DB:
        said = f"torch's own {name} ({of_torch:.1f} dB)" if math.isfinite(of_torch) else f"torch's own {name}"
        return "check", f"reaches {reached} with the float network, no less than {said}: the network magnifies rounding"
    return "bad", f"reaches {reached} with the float network; {precision} should reach {least:g} dB"


def _own(logits: NDArray[np.float32], precision: Precision, references: References) -> Reached | None:
    """Against what the file was lowered from, where that is not the float network."""
    if precision == "int8":
        return _reached(references.simulated, logits)
    return _reached(references.rounded_weights, logits) if precision == "int8-weights" else None


def _sqnr(reference: NDArray[np.floating], logits: NDArray[np.floating], references: References) -> float:
    """SQNR; of a collapsed network with the mean left in, which is all that such a network says."""
    if not np.isfinite(logits).all():
        return -math.inf
    if not references.collapsed:
        return sqnr_db(reference, logits)
    noise = float(((logits.astype(np.float64) - reference) ** 2).sum())
    return 10 * math.log10(float((reference.astype(np.float64) ** 2).sum()) / noise) if noise else math.inf


def _reached(reference: NDArray[np.floating], logits: NDArray[np.floating]) -> Reached:
    return Reached(sqnr_db(reference, logits), agreement(reference.argmax(axis=1), logits.argmax(axis=1)))


def _is_loss(reached: Reached) -> bool:
    return reached.decibels < LOSS_DB or reached.agreement < LOSS_AGREEMENT


def _overflow(references: References) -> str | None:
    """Say which operator exceeds float16, where that changes the answers (a mask of −1e9 before a softmax does not)."""
    found = overflow(references.captured, references.judged.pixels)
    if found is None:
        return None
    half = references.float16
    if np.isfinite(half).all() and not _is_loss(_reached(references.float32, half)):
        return None
    return f"overflows float16: {found}; use fp32, or scale the weights of that layer"
