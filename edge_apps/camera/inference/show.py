"""Turn the times of stages into a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edge_apps.camera.inference.stage_names import for_people
from edge_apps.console import Line, Part, table
from edge_apps.runtime.latency import ENOUGH_FOR_P99, Summary

INDICATIVE = f"* indicative: fewer than {ENOUGH_FOR_P99:,} frames"


def stage_parts(title: str, stages: Mapping[str, Summary]) -> Iterator[Part]:
    """Return the table stage × (n, p50, p90, p95, p99, max) in milliseconds, end-to-end latency first, and its note."""
    shown = table(title or None)
    shown.add_column("stage")
    for name in ("n", "p50", "p90", "p95", "p99", "max"):
        shown.add_column(name, justify="right")
    shown_stages = for_people(stages)
    for stage, s in shown_stages.items():
        star = "*" if s.p99_is_indicative else ""
        cells = (f"{value:.2f}" for value in (s.p50, s.p90, s.p95))
        shown.add_row(stage, f"{s.n:,}", *cells, f"{s.p99:.2f}{star}", f"{s.max:.2f}")
    yield shown
    starred = any(s.p99_is_indicative for s in shown_stages.values())
    yield Line(f"Milliseconds; percentiles of single frames.{f' {INDICATIVE}.' if starred else ''}", wraps=True)
