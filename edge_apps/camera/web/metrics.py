"""What Prometheus scrapes: counts since the start, the stages' histogram, and how the device is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from edge_apps.camera.live.recent import EDGES
from edge_apps.camera.live.schema import State
from edge_apps.camera.live.state import LiveState
from edge_apps.runtime.sensors import Sample

CONTENT_TYPE = CONTENT_TYPE_LATEST

PREFIX = "edge_camera"


class Metrics(Collector):
    """Everything is read from the camera's state when it is asked for; nothing is counted twice."""

    def __init__(self, live: LiveState) -> None:
        self._live = live
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing needs to be known before."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        state = self._live.state()
        yield from self._counters(state)
        yield self._stages()
        yield from _gauges(state)
        if state.sample is not None:
            yield from _device(state.sample)
        yield _build(state)

    def _counters(self, state: State) -> Iterator[Metric]:
        events, skipped = self._live.counts()
        yield CounterMetricFamily(f"{PREFIX}_frames", "Frames classified.", state.frames)
        yield _by_kind("skipped", "Frames that gave no result.", skipped)
        yield _by_kind("events", "What happened to the source or the program.", events)
        yield CounterMetricFamily(f"{PREFIX}_source_restarts", "Restarts of the source.", state.restarts)
        yield CounterMetricFamily(
            f"{PREFIX}_log_dropped_rows", "Rows that the latency log could not take.", state.log.dropped
        )

    def _stages(self) -> Metric:
        family = HistogramMetricFamily(
            f"{PREFIX}_stage_duration_seconds", "Time of each stage of a frame.", labels=["stage"]
        )
        for stage, histogram in self._live.histograms().items():
            below, buckets = 0, []
            for edge, count in zip((*map(str, EDGES), "+Inf"), histogram.bins, strict=True):
                below += count
                buckets.append((edge, float(below)))
            family.add_metric([stage], buckets, histogram.seconds)
        return family


def _by_kind(name: str, meaning: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}_{name}", meaning, labels=["kind"])
    for kind, count in sorted(counts.items()):
        family.add_metric([kind], count)
    return family


def _gauges(state: State) -> Iterator[Metric]:
    yield _gauge("healthy", "1 while frames flow, as /healthz.", state.health.ok)
    yield _gauge("frames_per_second", "Over the last ten seconds.", state.fps)
    yield _gauge("viewers", "Who looks at the video.", state.viewers)
    yield _gauge("uptime_seconds", "Since the start.", state.at - state.started)
    if state.log.state != "off":
        yield _gauge("log_writing", "1 while the latency log can be written.", state.log.state == "writing")
    if state.labels is not None:
        yield _gauge("last_frame_timestamp_seconds", "When the latest frame was captured.", state.labels.captured_at)
        latency = "End-to-end latency: how old it was when its labels were there."
        yield _gauge("last_frame_age_seconds", latency, state.labels.age_ms / 1e3)


def _device(sample: Sample) -> Iterator[Metric]:
    """Only what the machine says: a gauge that is absent is not 0."""
    if sample.temperature_c is not None:
        yield _gauge("temperature_celsius", "Of the processor.", sample.temperature_c)
    if sample.clock_mhz is not None:
        yield _gauge("cpu_frequency_hertz", "Of the processor.", sample.clock_mhz * 1e6)
    if sample.throttled is not None:
        now = [word for word in sample.throttled if not word.endswith("(earlier)")]
        yield _gauge("throttled", "1 while something holds the machine back.", bool(now))
    yield _gauge("resident_memory_bytes", "Of this process.", sample.memory_mb * 1e6)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", meaning, float(value))


def _build(state: State) -> Metric:
    facts = state.facts
    about = {
        "version": facts.program,
        "model": facts.model,
        "precision": facts.precision,
        "target": facts.target,
        "runtime": facts.runtime,
        "sha256": facts.sha256,
        "fingerprint": facts.fingerprint,
        "device_id": facts.device_id,
        "device_name": facts.device_name,
    }
    return InfoMetricFamily(f"{PREFIX}_build", "What runs, on what.", about)
