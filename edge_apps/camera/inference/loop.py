"""The frame loop: capture → decode → preprocess → infer → postprocess, each timed; nothing else while it measures."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_apps.camera.capture.frames import POLL
from edge_apps.camera.inference.model import Opened
from edge_apps.camera.inference.session import Session
from edge_apps.camera.inference.smoothing import Probabilities, Smoother, Unsmoothed
from edge_apps.camera.sources.parse import Event, Frame, Skipped, Source, TestPattern
from edge_apps.errors import BadManifest
from edge_apps.images import Image
from edge_apps.runtime.latency import StageClock
from edge_apps.runtime.manifest import OutputKind
from edge_apps.runtime.preprocess import to_batch
from edge_apps.runtime.runner import Runner

NOT_FINITE = "not-finite"
"""Kind of ``Skipped`` for a frame whose logits are not numbers: a label would be an invention."""

Top = tuple[tuple[str, float], ...]
"""Labels with their probabilities, best first."""


@dataclass(frozen=True)
class Result:
    """What one frame gave: its own ``top`` labels, and nanoseconds per stage.

    ``smoothed`` are the labels after smoothing, and ``decision`` the best of them, None where it is below the
    threshold. ``image`` is the frame, uint8 ``[H, W, 3]`` RGB.
    """

    sequence: int
    name: str
    captured_at: float
    top: Top
    times: dict[str, int]
    smoothed: Top = ()
    decision: str | None = None
    image: Image | None = field(default=None, compare=False, repr=False)

    @property
    def shown(self) -> Top:
        """The labels for people: smoothed where there is smoothing."""
        return self.smoothed or self.top


Outcome = Result | Skipped | Event
"""What the loop gives for what the source gave."""


class Classifier:
    """An opened model, and how its answers are read; it lives until another one takes its place."""

    def __init__(self, opened: Opened, *, top_k: int, threshold: float = 0.0, smoother: Smoother | None = None) -> None:
        self.opened, self.runner = opened, opened.runner
        self.warmup, self.first_ms = 0, 0.0
        self.session: Session  # set by who knows the source, when it is warm
        self._top_k, self._threshold = top_k, threshold
        self._smoother = smoother or Unsmoothed()

    def warm_up(self, inferences: int) -> None:
        """Run the network before anything is measured, and remember how long the first, cold inference took."""
        self.first_ms = warm_up(self.runner, inferences)
        self.warmup = inferences

    def prepare(self, image: Image) -> NDArray[np.uint8]:
        """The network's input of one frame."""
        return to_batch([image], self.runner.manifest.preprocess)

    def forget(self) -> None:
        """The next frame shows another scene."""
        self._smoother.reset()

    def answer(self, outputs: NDArray[np.float32], at_ns: int) -> tuple[Top, Top, str | None] | None:
        """A frame's own labels, the smoothed ones, and the decision; None where a number is not finite."""
        found = probabilities(outputs, self.runner.manifest.output)
        if found is None:
            return None
        own = self._named(found)
        smooth = self._smoother.add(found, at_ns)
        # A label without a vote among the last frames is no second best.
        smoothed = own if smooth is found else tuple(each for each in self._named(smooth) if each[1] > 0)
        label, probability = smoothed[0]
        return own, smoothed, label if probability >= self._threshold else None

    def _named(self, found: Probabilities) -> Top:
        labels = self.runner.manifest.labels
        return tuple((labels[index], float(found[index])) for index in best(found, self._top_k))


@dataclass(frozen=True)
class Prepared:
    """A frame as the network of ``classifier`` takes it, and the clock that timed it so far."""

    frame: Frame
    batch: NDArray[np.uint8]
    classifier: Classifier
    clock: StageClock


Ready = Prepared | Skipped | Event
"""What is ready for the network, and what passes it by."""


def warm_up(runner: Runner, inferences: int) -> float:
    """Run the network before anything is measured; the first, cold inference's milliseconds.

    Raises:
        BadManifest: the file names more or fewer labels than the network has outputs.
    """
    batch = to_batch([TestPattern().image(0)], runner.manifest.preprocess)
    start = time.perf_counter_ns()
    logits = runner.run(batch)
    first_ms = (time.perf_counter_ns() - start) / 1e6
    labels = len(runner.manifest.labels)
    if logits.shape != (1, labels):
        raise BadManifest(
            f"'{runner.path}' names {labels} labels; its output for one frame has the shape {logits.shape}. "
            "Export it again."
        )
    for _ in range(inferences - 1):
        runner.run(batch)
    return first_ms


def classify(
    source: Source,
    current: Callable[[], Classifier],
    *,
    pipelined: bool = False,
    switched: Callable[[Classifier], None] = lambda _: None,
    waiting: Callable[[], None] = lambda: None,
) -> Generator[Outcome, None, None]:
    """Classify frame after frame by the classifier that is current when the frame comes.

    ``switched`` is called with another classifier before its first frame: nothing uses the old one any more.

    A stage's time runs from the end of the one before it; what the caller does between two frames is in none.
    ``pipelined``: a thread captures and prepares the next frame while the network works on this one. More frames are
    done then where there is a second core, and each is older when its labels are there: ``age`` says how much.
    ``waiting`` is called now and then while such a loop waits for a frame and the thread that makes it shows life, by
    asking the source's ``stop``: one that hangs in a driver or on a dead disk does not.
    """
    made = _prepared(source, current)
    classifier = current()
    for item in _one_ahead(made, _overheard(source), waiting) if pipelined else made:
        if isinstance(item, Event):
            classifier.forget()
        elif isinstance(item, Prepared):
            if item.classifier is not classifier:
                classifier = item.classifier
                switched(classifier)
            yield classified(item)
            continue
        yield item


def _prepared(source: Source, current: Callable[[], Classifier]) -> Generator[Ready, None, None]:
    frames = iter(source)
    while True:
        clock = StageClock()
        item = next(frames, None)
        if item is None:
            return
        if not isinstance(item, Frame):
            yield item
            continue
        clock.mark("capture")
        if item.decoded_elsewhere:
            clock.elsewhere(item.decode_ns, "decode")
        else:
            clock.move(item.decode_ns, "capture", "decode")
        yield prepared(item, current(), clock)


def prepared(frame: Frame, classifier: Classifier, clock: StageClock) -> Prepared:
    """Preprocess a frame; that is the first stage after those that ``clock`` has marked."""
    batch = classifier.prepare(frame.image)
    clock.mark("preprocess")
    return Prepared(frame, batch, classifier, clock)


def classified(prepared: Prepared) -> Result | Skipped:
    """Infer and postprocess what is prepared; ``Skipped`` where the network gives no numbers."""
    frame, classifier, clock = prepared.frame, prepared.classifier, prepared.clock
    clock.resume()
    logits = classifier.runner.run(prepared.batch)[0]
    clock.mark("infer")
    answer = classifier.answer(logits, frame.at_ns)
    clock.mark("postprocess")
    if answer is None:
        reason = f"The network gave no numbers for '{frame.name}' (NaN or infinite logits)."
        return Skipped(frame.sequence, frame.name, frame.captured_at, NOT_FINITE, reason)
    own, smoothed, decision = answer
    times = clock.times(frame.born_ns)
    return Result(frame.sequence, frame.name, frame.captured_at, own, times, smoothed, decision, frame.image)


def _overheard(source: Source) -> threading.Event:
    """An event that is set whenever the source asks whether it shall stop."""
    stop, asked = source.stop, threading.Event()

    def overheard() -> bool:
        asked.set()
        return stop()

    source.stop = overheard
    return asked


def _one_ahead(
    items: Generator[Ready, None, None], alive: threading.Event, waiting: Callable[[], None]
) -> Iterator[Ready]:
    """The same items, each made by a thread while the caller is busy with the one before, and none earlier than that.

    ``waiting`` is called while the caller waits, once for each time that ``alive`` was found set. What goes wrong in
    the thread is raised here.
    """
    made: queue.SimpleQueue[Ready | BaseException | None] = queue.SimpleQueue()
    wanted = threading.Semaphore(1)
    over = False

    def make() -> None:
        try:
            while wanted.acquire() and not over:
                item = next(items, None)
                made.put(item)
                if item is None:
                    return
        except BaseException as error:
            made.put(error)

    thread = threading.Thread(target=make, name="capture and preprocess", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = made.get(timeout=POLL)
            except queue.Empty:
                if alive.is_set():
                    alive.clear()
                    waiting()
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            wanted.release()
            yield item
    finally:
        over = True
        wanted.release()
        thread.join()
        items.close()


def probabilities(outputs: NDArray[np.float32], kind: OutputKind = "logits") -> Probabilities | None:
    """Return the probabilities ``[K]`` in float64 of what a network answered; None where a number is not finite.

    Of logits that is their softmax, shifted by the largest so that it cannot overflow. A network's own probabilities
    are used as they are; int8 may round them a little beyond 0…1.
    """
    if not np.isfinite(outputs).all():
        return None
    values = outputs.astype(np.float64)
    if kind != "logits":
        return values.clip(0.0, 1.0)
    exponentials = np.exp(values - values.max())
    found: Probabilities = exponentials / exponentials.sum()
    return found


def best(values: Probabilities, k: int) -> list[int]:
    """Indices of the ``k`` largest of ``[K]``, the largest first, the lower index first among equals."""
    least = np.partition(values, len(values) - k)[len(values) - k]  # a thousand classes are sorted for a handful else
    among = np.flatnonzero(values >= least)
    return [int(index) for index in among[np.argsort(-values[among], kind="stable")][:k]]
