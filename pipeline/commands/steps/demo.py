"""The main job on built-in data, from the trained network to a latency log, in four steps."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from calibration.recipe import Recipe
from edge_apps.camera.inference.loop import Outcome, Result
from edge_apps.camera.inference.model import open_model
from edge_apps.camera.log.sink import LogOptions
from edge_apps.camera.run import Options, Tally, run
from edge_apps.camera.sources.parse import parse_source
from edge_apps.images import ImageSet, write_png
from edge_apps.runtime.latency import Summary
from edge_apps.runtime.manifest import Bundle
from pipeline.checkpoints.checkpoint import builtin
from pipeline.checkpoints.load import load
from pipeline.data import open_data
from pipeline.errors import BadInput
from pipeline.evaluation.bundle import evaluate_bundle, record
from pipeline.evaluation.results import EvaluationResult
from pipeline.exporting.job import ExportJob
from pipeline.gating.judge import GatePolicy, GateResult, judge
from pipeline.targets import choose_targets, plan

POLICY = GatePolicy(max_drop=3.0, allow_not_run=("coreml",))
"""450 images cannot decide a drop of 1.0: without one discordant pair the interval still reaches 0.85 points."""

DATA = "digits"

MARK = "made-by-pipeline-demo.txt"
"""Says that a folder of frames is a demo's own, and may be replaced by the next."""


@dataclass(frozen=True)
class CameraRun:
    """One file run by the camera program: how many frames it named rightly, and the time of each stage."""

    frames: int
    right: int
    stages: dict[str, Summary]


@dataclass(frozen=True)
class Place:
    """What the demo writes, and where."""

    root: Path

    @property
    def bundle(self) -> Path:
        """The exported files."""
        return self.root / "bundle"

    @property
    def frames(self) -> Path:
        """Held-out pictures for the camera program, ``<class>/<n>.png``."""
        return self.root / "frames"

    @property
    def log(self) -> Path:
        """The camera program's latency log."""
        return self.root / "latency.db"


def export_job(place: Place) -> ExportJob:
    """Every target in fp32 and int8, from the built-in checkpoint."""
    files, _ = plan(choose_targets(["all"]), [])
    return ExportJob(load(builtin()), files, open_data(DATA, "calibration"), Recipe(), place.bundle)


def evaluate_and_gate(place: Place) -> tuple[EvaluationResult, GateResult]:
    """Measure every file that this machine can run on the held-out pictures, keep the result, judge it."""
    evaluation = evaluate_bundle(place.bundle, open_data(DATA, "test"))
    record(place.bundle, evaluation)
    return evaluation, judge(evaluation, POLICY)


def check_frames(place: Place) -> None:
    """Refuse, before work starts, a ``frames`` folder that an earlier demo did not write; ``BadInput``."""
    if place.frames.exists() and not (place.frames / MARK).is_file() and any(place.frames.iterdir()):
        raise BadInput(f"'{place.frames}' exists and is not a demo's: it is not replaced. Choose another `out`.")


def write_frames(place: Place) -> int:
    """Write the held-out pictures as files for the camera program; returns how many."""
    check_frames(place)
    held_out: ImageSet = open_data(DATA, "test")
    shutil.rmtree(place.frames, ignore_errors=True)
    place.frames.mkdir(parents=True)
    (place.frames / MARK).write_text("Written by 'pipeline demo', which replaces this folder.\n", "utf-8")
    for index, label in enumerate(held_out.labels):
        folder = place.frames / held_out.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        write_png(folder / f"{index:03}.png", held_out.image(index))
    return len(held_out)


def run_camera(place: Place, bundle: Bundle, evaluation: EvaluationResult) -> dict[str, CameraRun]:
    """Run the camera program on the frames through every file that this machine can run; one thread, all logged."""
    runs = {}
    for file in evaluation.files:
        if file.status != "run":
            continue
        source = parse_source(f"folder:{place.frames}")
        opened = open_model(bundle.root / file.path, None, None, threads=1)
        output = _Counting()
        tally = run(source, opened, output, Options(log=LogOptions(place.log)))
        runs[file.path] = CameraRun(tally.frames, output.right, tally.times.summaries())
    return runs


class _Counting:
    """Says nothing, and counts the frames whose folder is the label that they were given."""

    def __init__(self) -> None:
        self.right = 0

    def started(self, session: object, passed_over: tuple[str, ...]) -> None:
        """Nothing to tell."""

    def serving(self, url: str) -> None:
        """There is no page."""

    def item(self, item: Outcome, tally: Tally) -> None:
        """A frame's name is ``<class>/<n>.png``."""
        del tally
        if isinstance(item, Result) and item.top[0][0] == item.name.partition("/")[0]:
            self.right += 1

    def finished(self, tally: Tally) -> None:
        """Nothing to tell."""

    def close(self) -> None:
        """Nothing to close."""
