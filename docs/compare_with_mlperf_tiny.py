"""Writes ``docs/mlperf-tiny.md``: an int8 file of ours beside MLPerf Tiny's ResNet-8, on the same pictures and core.

``python docs/compare_with_mlperf_tiny.py pretrainedResnet_quant.tflite BUNDLE`` in the repository's root. The reference
file is that of https://github.com/mlcommons/tiny (benchmark/training/image_classification/trained_models); it takes
int8 pixels of 32×32, value less 128, and answers with CIFAR-10's classes in alphabetical order.
"""

import platform
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edge_apps.files import write_whole
from edge_apps.runtime.latency import Summary
from edge_apps.runtime.manifest import load_bundle
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.runtime.runner import open_runner
from pipeline.benchmarking.latency import take_turns
from pipeline.bundles.reopen import checkpoint_of
from pipeline.data import open_data
from pipeline.data.classes import matched
from pipeline.data.reading import load_all
from pipeline.evaluation.bundle import check_apart
from pipeline.metrics.paired import drop_interval, paired_table

SIDE, CLASSES = 32, 10
OUT = Path(__file__).with_name("mlperf-tiny.md")


class Reference:
    """MLPerf Tiny's file behind the interface of our runners."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = SimpleNamespace(preprocess=Preprocess(height=SIDE, width=SIDE))
        self._interpreter = Interpreter(model_path=str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        (taken,), (given,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if (tuple(taken["shape"]), tuple(given["shape"])) != ((1, SIDE, SIDE, 3), (1, CLASSES)):
            raise click.UsageError(f"'{path}' is not MLPerf Tiny's image classifier.")
        self._input, self._output = taken["index"], given["index"]

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores ``[N, 10]`` of uint8 ``[N, 32, 32, 3]``, one picture at a time."""
        answers = np.empty((len(batch), CLASSES), np.float32)
        for row, picture in enumerate(batch):
            self._interpreter.set_tensor(self._input, (picture ^ 0x80).view(np.int8)[None])  # less 128
            self._interpreter.invoke()
            answers[row] = self._interpreter.get_tensor(self._output)[0]
        return answers

    def close(self) -> None:
        """Nothing to free."""


@click.command()
@click.argument("reference", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", default="cifar10/test.tar", show_default=True, help="Test pictures, as 'pipeline' takes them.")
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Of latency, for each file.")
def main(reference: Path, bundle: Path, data: str, seconds: float) -> None:
    """Compare the int8 .tflite of a BUNDLE with the REFERENCE."""
    ours = load_bundle(bundle)
    listed = next(file for file in ours.models() if (file.target, file.precision) == ("tflite", "int8"))
    images = matched(open_data(data, "test"), ours.manifest.labels)
    check_apart(ours, images)
    runner, theirs = open_runner(ours.verified(listed), 1), Reference(reference)
    labels = np.asarray(images.labels)
    right = {
        one: one.run(load_all(images, one.manifest.preprocess).images).argmax(axis=1) == labels
        for one in (theirs, runner)
    }
    latency = dict(zip((theirs, runner), take_turns([theirs, runner], seconds=seconds), strict=True))
    table = paired_table(right[theirs], right[runner])
    interval = drop_interval(table)
    training = checkpoint_of(ours).training

    def row(name: str, one: Reference, side: int) -> str:
        times: Summary = latency[one]
        return (
            f"| {name} | {side}×{side} | {one.path.stat().st_size:,} | {100 * right[one].mean():.2f} "
            f"| {times.p50:.4f} | {times.p90:.4f} | {times.p50 / latency[theirs].p50:.2f} |"
        )

    write_whole(
        OUT,
        "\n".join(
            [
                "# Beside MLPerf Tiny's ResNet-8",
                "",
                f"Made by `python docs/{Path(__file__).name} {reference.name} {bundle}` in one run, on one core of "
                f"{platform.machine()}, {runner.runtime}. Accuracy is on all {len(images):,} pictures of `{data}`; "
                f"latency is of single pictures, the two files taking turns for {seconds:g} s each.",
                "",
                "| file | input | bytes | top-1 % | p50 ms | p90 ms | p50 ÷ ResNet-8's |",
                "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
                row("MLPerf Tiny, `pretrainedResnet_quant.tflite`", theirs, SIDE),
                row(f"ours, `{listed.path}`", runner, runner.manifest.preprocess.height),
                "",
                f"Ours is right on {-100 * table.drop:.2f} points more of the same pictures, 95 % interval "
                f"[{-100 * interval.high:.2f}, {-100 * interval.low:.2f}].",
                "",
                "The pictures are CIFAR-10 as JPEG files. MLPerf Tiny's network was trained on the lossless ones, and "
                "it suffers on these; ours was trained on JPEG files. Its bytes hold a network, ours also the "
                "normalisation of uint8 pixels, the labels, and where it came from. The subtraction of 128 that the "
                "reference's pixels need is in its time.",
                "",
                "```",
                str(training["command"]) if training else "(no record of training)",
                "```",
                "",
            ]
        ).encode(),
    )
    click.echo(OUT.read_text("utf-8"))


if __name__ == "__main__":
    main()
