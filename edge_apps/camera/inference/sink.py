"""The protocol behind which everything stands that a run leaves behind or shows: log, page, snapshots, output."""

from __future__ import annotations

from edge_apps.camera.inference.loop import Classifier, Outcome
from edge_apps.runtime.sensors import Sample


class Sink:
    """Take what a run gives. A sink overrides the methods that it needs; here they do nothing.

    The frame loop calls them, ``sample`` the sampler's thread; none may wait.
    """

    def begin(self, classifier: Classifier) -> None:
        """Take note of the model whose frames follow: the first of a run, or one that takes its place."""

    def add(self, item: Outcome) -> None:
        """Take a classified frame, a skipped one, or an event."""

    def sample(self, sample: Sample) -> None:
        """Take the state of the machine, once a second."""

    def alive(self) -> None:
        """Take note that the loop turns, whether or not it has a frame."""
