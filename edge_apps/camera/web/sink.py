"""The live page as a sink of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge_apps.camera.inference.loop import Classifier, Outcome, Result
from edge_apps.camera.inference.sink import Sink
from edge_apps.camera.live.schema import LogState
from edge_apps.camera.live.state import LiveState, facts_of
from edge_apps.camera.log import Log
from edge_apps.camera.sources.parse import Event
from edge_apps.camera.web.address import Address
from edge_apps.runtime.sensors import Sample


@dataclass(frozen=True)
class WebOptions:
    """Where the live page is served; ``token`` is None only where nobody else can reach it."""

    address: Address
    token: str | None


class PageSink(Sink):
    """Pass what a run gives, and the state of its log, to those who look at the page."""

    def __init__(self, live: LiveState, log: Log | None) -> None:
        self._live, self._log = live, log
        self._show_log()

    def begin(self, classifier: Classifier) -> None:
        self._live.switched(facts_of(classifier.session))

    def add(self, item: Outcome) -> None:
        if isinstance(item, Result):
            self._live.publish(item)
        else:
            self._live.event(item)

    def sample(self, sample: Sample) -> None:
        self._live.sample(sample)
        self._show_log()

    def _show_log(self) -> None:
        if self._log:
            state = self._log.state
            self._live.log(LogState("paused" if state.fault else "writing", state.fault, state.dropped))


@contextlib.contextmanager
def served_page(
    options: WebOptions,
    first: Classifier,
    log: Log | None,
    tell: Callable[[Event], None],
    serving: Callable[[str], None],
    *,
    stale_after: float,
) -> Iterator[PageSink]:
    """Serve the page of a run that begins with ``first``; ``serving`` gets its URL, with the token if there is one.

    Raises what ``WebServer.start`` raises.
    """
    from edge_apps.camera.web.server import WebServer  # its libraries come with an extra

    with LiveState(facts_of(first.session), stale_after=stale_after) as live:
        sink = PageSink(live, log)
        with WebServer(live, options.address, options.token, tell) as server:
            serving(server.entry)
            yield sink
