"""Says how people are shown the stages of a frame: end-to-end latency first, waiting for the next frame last.

On disk and in JSON stages keep their names. ``total`` is shown to nobody: at a camera's pace it is the time between two
frames, which the throughput says better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from edge_apps.runtime.latency import Summary

Figure = TypeVar("Figure")

NAMES = {
    "age": "end-to-end",
    "decode": "decode",
    "preprocess": "preprocess",
    "infer": "infer",
    "postprocess": "postprocess",
    "capture": "waiting",
}
"""Stage → what it is called, in the order in which it is shown."""


def for_people(stages: Mapping[str, Figure]) -> dict[str, Figure]:
    """Return what was measured by the names for people, in their order.

    Version 1 of the log measured decoding as a part of ``capture``: that is not called waiting.
    """
    names = NAMES if "decode" in stages or "capture" not in stages else {**NAMES, "capture": "capture"}
    return {name: stages[stage] for stage, name in names.items() if stage in stages}


def stages_as_json(stages: Mapping[str, Summary]) -> dict[str, dict[str, Any]]:
    """Return the figures for programs, by the names of the stages on disk."""
    return {stage: {**asdict(s), "p99_is_indicative": s.p99_is_indicative} for stage, s in stages.items()}
