"""First half of an export: capture the network, calibrate it, and draw the images that its files are judged on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from calibration.dataset.dataset import CalibrationSet
from calibration.ranges import Ranges
from calibration.recipe import Recipe
from calibration.tensor_keys import WEIGHTED, TensorKeys
from edge_apps import progress
from edge_apps.images import Image
from edge_apps.runtime.manifest import OutputKind
from pipeline.data.held_back import judged_images
from pipeline.errors import BadRecipe
from pipeline.exporting.interrupt import lasting_interrupts
from pipeline.exporting.job import ExportJob, check_installed
from pipeline.exporting.references import References
from pipeline.graphs.evaluation_mode import check_int8_forms
from pipeline.graphs.outputs import output_kind
from pipeline.quantization.calibrate import Calibration, calibrate, draw
from pipeline.quantization.captured import Captured, capture

Check = Callable[[Captured, CalibrationSet], None]
"""Refuses a job once its calibration images are known, before the long work."""


@dataclass(frozen=True)
class Material:
    """What the files of a job are made of, and the networks that they are compared with.

    ``int8`` is the captured network with the edits of the calibration; the same as ``captured`` where there are none.
    ``calibration`` is None where no file is int8.
    """

    job: ExportJob
    captured: Captured
    int8: Captured
    calibration: Calibration | None
    references: References

    @property
    def ranges(self) -> Ranges | None:
        """The ranges of the int8 files, if there are any."""
        return None if self.calibration is None else self.calibration.ranges

    @property
    def output(self) -> OutputKind:
        """What the network answers: logits, or probabilities of its own."""
        return output_kind(self.captured.original, self.references.float32)

    def with_float(self, layers: Collection[str]) -> Material:
        """Return the same with more layers in float; nothing is captured, drawn or calibrated again."""
        assert self.calibration is not None, "only int8 files can keep layers in float"
        calibration = self.calibration.with_float(self.captured, layers)
        int8 = calibration.applied(self.captured)
        job = replace(self.job, quantization=calibration)
        return Material(job, self.captured, int8, calibration, self.references.with_int8(int8, calibration.ranges))


def prepare(job: ExportJob, check: Check = lambda _captured, _chosen: None) -> Material:
    """Capture, calibrate and draw.

    Raises:
        MissingExtra: a target's packages are not installed. BadCalibration: too few images, or ranges of another
            checkpoint. BadRecipe: int8 is asked for, and every layer is to stay in float. What ``check`` raises.
    """
    check_installed(job.files)
    with lasting_interrupts() as check_interrupt:
        progress.step("Capturing the network")
        captured = capture(job.checkpoint, _example(job))
        if job.needs_ranges():
            check_int8(captured, job.recipe)
        check_interrupt()
        calibration = _calibration(job, captured, check)
        check_interrupt()
    ranges = None if calibration is None else calibration.ranges
    int8 = captured if calibration is None else calibration.applied(captured)
    used = None if ranges is None else ranges.calibration_set
    judged = judged_images(job.images, job.checkpoint.preprocess, job.recipe.seed, used)
    return Material(job, captured, int8, calibration, References(captured, int8, ranges, judged))


def _example(job: ExportJob) -> Image:
    """An image that the network is captured with."""
    if job.images is not None:
        return job.images.image(0)
    noise: Image = judged_images(None, job.checkpoint.preprocess, job.recipe.seed, None).pixels[0]
    return noise


def _calibration(job: ExportJob, captured: Captured, check: Check) -> Calibration | None:
    """The calibration that was given, or a new one; None where no file is int8."""
    given, checkpoint = job.calibration, job.checkpoint
    if given is not None:
        given.ranges.check_checkpoint(checkpoint.sha256, checkpoint.preprocess, "the given ranges")
    if given is not None or not job.needs_ranges():
        if given is not None and job.needs_ranges():
            check(captured, given.ranges.calibration_set)
        progress.step("Preparing")
        return given if job.needs_ranges() else None
    assert job.images is not None, "int8 was planned without images"
    pictures = draw(captured, job.images, job.recipe)
    check(captured, pictures.chosen)
    progress.step("Calibrating")
    return calibrate(captured, pictures, job.recipe)


def check_int8(captured: Captured, recipe: Recipe) -> None:
    """Refuse what cannot be int8: a recurrent layer (``BadInput``), a recipe that leaves nothing (``BadRecipe``)."""
    check_int8_forms(captured.network)
    if not any_in_int8(captured, recipe):
        patterns = ", ".join(f"'{pattern}'" for pattern in recipe.float_layers) or "none"
        raise BadRecipe(
            f"int8: every convolution and linear layer is to stay in float (float_layers: {patterns}), and that is "
            "fp32. Ask for `precision=fp32`, or name fewer layers in the recipe."
        )


def any_in_int8(captured: Captured, recipe: Recipe) -> bool:
    """Whether int8 files of this recipe compute any convolution or linear layer in integers."""
    graph = captured.graph()
    keys = TensorKeys(graph, recipe)
    return any(node.target in WEIGHTED and keys.is_quantized(node) for node in graph.graph.nodes)
