"""Turn what logs say into tables and lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_apps.camera.inference.show import INDICATIVE, stage_parts
from edge_apps.camera.inference.stage_names import NAMES
from edge_apps.camera.log.compare import SHOWN, Compared
from edge_apps.camera.log.devices import described
from edge_apps.camera.log.summary import Group, State
from edge_apps.console import Line, Part, or_dash, table
from edge_apps.runtime.histogram import RELATIVE_ERROR


def group_parts(group: Group) -> Iterator[Part]:
    """Return what the runs of one device, file and runtime measured, part by part."""
    device = described(group.device_id, group.device_name, group.device)
    yield Line(f"{device} · {group.device.os}")
    yield Line(
        f"{group.file} (sha256 {group.sha256[:12]}…): {group.model} {group.precision}, input {group.input}, "
        f"{group.runtime}, {count(group.threads, 'thread')}",
        wraps=True,
    )
    runs = count(len(group.started), "run")
    unfinished = f", {group.unfinished} running or killed" if group.unfinished else ""
    events = "".join(f", {kind} {n:,}×" for kind, n in group.events.items())
    yield Line(f"{group.setup}: {runs} since {group.started[0]}{unfinished}{events}", wraps=True)
    yield Line(f"Cold: loaded in {_range(group.load_ms)} ms, first inference {_range(group.first_ms)} ms", wraps=True)
    if state := _state(group.state, group.power):
        yield Line(state, wraps=True)
    if not group.stages:
        yield Line("No frame was logged.", wraps=True)
    else:
        if headline := _headline(group):
            yield Line(headline, wraps=True)
        yield from stage_parts("", group.stages)
    for line in _from_histograms(group):
        yield Line(line, wraps=True)
    yield Line("", wraps=True)


def _headline(group: Group) -> str:
    """Say what matters first: how late an answer is, and how many there are."""
    latency = group.stages.get("age")
    parts = [f"End-to-end latency p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms"] if latency else []
    if group.fps is not None:
        parts.append(f"throughput {group.fps:.1f} fps" if parts else f"Throughput {group.fps:.1f} fps")
    return "; ".join(parts)


def _from_histograms(group: Group) -> Iterator[str]:
    """Say what the caps, or a full disk, took, and what that means for the figures."""
    if group.by_histogram:
        yield (
            f"The rows of {count(group.frames_dropped, 'frame')} were dropped: {group.by_histogram:,} frames count by "
            f"the histograms of their windows. Percentiles are within {RELATIVE_ERROR:.1%}; n, mean and max are exact."
        )
    if group.missing:
        yield (f"{count(group.missing, 'frame')} of those dropped are in no figure: their windows are gone, too.")


def _state(state: State, power: str) -> str:
    """Return how the device did, as far as it is known."""
    parts = []
    if state.temperature_max is not None:
        parts.append(f"up to {state.temperature_max:.1f} °C")
    if state.clock_min is not None:
        parts.append(f"clock down to {state.clock_min:,.0f} MHz")
    if state.throttled is not None:
        by = ", ".join(state.throttled_by)
        parts.append(f"held back {state.throttled:.1%} of the time{f' ({by})' if by else ''}")
    if state.memory_max is not None:
        parts.append(f"memory up to {state.memory_max:,.0f} MB")
    if power:
        parts.append(power)
    return f"Device: {'; '.join(parts)}" if parts else ""


def compared_parts(compared: Sequence[Compared]) -> Iterator[Part]:
    """Return first who is who, then the figures by number: names are long, and columns are many."""

    for number, line in enumerate(compared, 1):
        g = line.group
        what = f"{g.file} ({g.model} {g.precision}, {g.input}), {g.runtime}, {count(g.threads, 'thread')}, {g.setup}"
        what += f", {g.power}" if g.power else ""
        device = described(g.device_id, g.device_name, g.device)
        yield Line(f"{number:>2}  {device}\n    {what}")
    yield Line("", wraps=True)
    shown = table(None)
    shown.add_column("", justify="right")
    percentiles = [name for stage in SHOWN for name in (f"{NAMES[stage]}\np50", "\np90", "\np99")]
    for name in ("\nn", "\nfps", *percentiles, "\nload", "\nheld back", "\nmax °C"):
        shown.add_column(name, justify="right")
    for number, line in enumerate(compared, 1):
        shown.add_row(str(number), *_cells(line.group))
    yield shown
    notes = ["Milliseconds; percentiles of single frames."]
    if any(line.group.stages["total"].p99_is_indicative for line in compared):
        notes.append(f"{INDICATIVE}.")
    if any(line.group.by_histogram for line in compared):
        notes.append(f"~ partly by merged histograms: within {RELATIVE_ERROR:.1%}.")
    yield Line(" ".join(notes), wraps=True)


def _cells(group: Group) -> list[str]:

    about = "~" if group.by_histogram else ""
    cells = [f"{group.stages['total'].n:,}", or_dash(group.fps, ".1f")]
    for stage in SHOWN:
        figures = group.stages.get(stage)
        if figures is None:
            cells += ["–"] * 3  # version 1 did not measure the age
            continue
        star = "*" if figures.p99_is_indicative else ""
        cells += [f"{about}{figures.p50:.2f}", f"{about}{figures.p90:.2f}", f"{about}{figures.p99:.2f}{star}"]
    state = group.state
    return [
        *cells,
        _range(group.load_ms),
        or_dash(state.throttled, ".1%"),
        or_dash(state.temperature_max, ".1f"),
    ]


def count(n: int, noun: str) -> str:
    """Return a number of things, in words."""
    return f"{n:,} {noun}{'s' if n != 1 else ''}"


def _range(values: tuple[float, ...]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low}…{high}"
