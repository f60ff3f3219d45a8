"""Writes ``docs/digits.md``: a small network of every family, trained on the built-in digits, exported and evaluated.

``python docs/make_digits_table.py`` in the repository's root does all of it, ``… effnet alexnet`` these two. Every step
is a command of ``pipeline``; one that left its answer under ``--work`` is not given again.
"""

import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from edge_apps.files import write_whole
from edge_apps.runtime.manifest import BundleManifest
from pipeline import zoo
from pipeline.accuracy.results import EvaluationResult, FileResult
from pipeline.accuracy.sqnr import EQUAL_DB
from pipeline.cost import count_model

OUT = Path(__file__).with_name("digits.md")
COMMANDS = {
    "train": "pipeline train {model} {options} --data digits --input {side} --epochs {epochs} --lr {lr} "
    "--batch-size 32 --precision fp32 --threads 1 --restart --force --out {folder}/network.safetensors",
    "export": "pipeline export {folder}/network.safetensors --target all --data digits --out {folder}/bundle --force "
    "--json",
    "evaluate": "pipeline evaluate {folder}/bundle --data digits:test --threads 1 --json",
}
HEADINGS = (
    "network", "input", "params", "train, min", "float top-1 %", "int8 .pte top-1 %", "int8 .tflite top-1 %",
    "drop of .pte, points", "drop of .tflite, points", "fp32 vs float, dB", "int8 vs float, dB",
    "int8 vs own graph, dB", "files run",
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A network and how it is trained."""

    model: str
    options: str
    side: int
    epochs: int
    lr: float = 0.003

    def command(self, step: str, folder: Path) -> str:
        """What is typed for a step."""
        return " ".join(COMMANDS[step].format(**vars(self), folder=shlex.quote(str(folder))).split())


# Without batch normalisation (AlexNet, SqueezeNet, GoogLeNet as published) at a lower rate than with it.
MEMBERS = (
    Member("alexnet", "--width 0.25 --grid 1", 67, 20, lr=0.001),
    Member("alexnet_one_tower", "--width 0.25 --grid 1", 64, 20, lr=0.001),
    Member("vgg_a", "--width 0.25 --grid 1 --batch-norm", 32, 15),
    Member("googlenet", "--width 0.25", 64, 20, lr=0.001),
    Member("googlenet_bn", "--width 0.25", 64, 12),
    Member("resnet18", "--width 0.25", 64, 15),
    Member("se_resnet18", "--width 0.25", 64, 15),
    Member("squeezenet_1_1", "", 64, 18, lr=0.001),
    Member("mobilenet_v1", "--width 0.25", 64, 25),
    Member("mobilenet_v2", "--width 0.35", 64, 15),
    Member("shufflenet_v1", "--groups 3 --width 0.5", 64, 15),
    Member("effnet", "", 32, 15),
    Member("fd_mobilenet", "--width 0.25", 96, 25),
    Member("efficientnet_b0", "--width 0.5 --depth 0.5", 64, 12),
)


class Done(msgspec.Struct, frozen=True):
    """A command that ended well; kept as ``<step>.json``, and what it said to stderr as ``<step>.log``."""

    command: str
    seconds: float
    stdout: str


def read(member: Member, step: str, folder: Path) -> Done | None:
    """What an earlier run of this very command left."""
    path = folder / f"{step}.json"
    done = msgspec.json.decode(path.read_bytes(), type=Done) if path.exists() else None
    return done if done and done.command == member.command(step, folder) else None


def make(member: Member, folder: Path) -> bool:
    """Do what is not done, and tell whether all ended well; a step that is done anew makes those after it stale."""
    folder.mkdir(parents=True, exist_ok=True)
    for position, step in enumerate(COMMANDS):
        if read(member, step, folder) is None:
            for stale in list(COMMANDS)[position:]:
                (folder / f"{stale}.json").unlink(missing_ok=True)
            command, start = member.command(step, folder), time.monotonic()
            click.echo(command)
            with (folder / f"{step}.log").open("w") as log:
                words = [str(Path(sys.executable).with_name("pipeline")), *shlex.split(command)[1:]]
                ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
            if ended.returncode != 0:
                (folder / f"{step}.out").write_text(ended.stdout, "utf-8")
                click.echo(f"Exit status {ended.returncode}: see {folder / step}.log and .out")
                return False
            done = Done(command, time.monotonic() - start, ended.stdout)
            write_whole(folder / f"{step}.json", msgspec.json.encode(done))
    return True


def page(work: Path) -> str:
    """The document, from what lies under ``work``."""
    rows, losses, notes = [], [], []
    for member in MEMBERS:
        steps = {step: read(member, step, work / member.model) for step in COMMANDS}
        row = [f"{member.model} {member.options}".strip(), str(member.side)]
        train, export, evaluate = steps.values()
        if train and export and evaluate:
            bundle = msgspec.json.decode(export.stdout, type=BundleManifest)
            result = msgspec.json.decode(evaluate.stdout, type=EvaluationResult)
            params = count_model(zoo.get(bundle.model), bundle.options, member.side, len(bundle.labels)).params
            row += [f"{params:,}", f"{train.seconds / 60:.1f}", *measured(bundle, result)]
            lost = [file for file in result.files if file.comparison and file.comparison.drop_points > 1]
            losses += [f"{file.path} {drop(file)}" for file in lost]
            notes += [f"Not run: {file.reason.partition(': ')[2]}" for file in result.files if file.reason]
            notes.append(", ".join(f"{tool} {version}" for tool, version in bundle.provenance.tools.items()) + ".")
            notes.append(f"{result.data}: {result.images} pictures, one is {100 / result.images:.2f} points.")
        else:
            row.append("not run: " + next(step for step, done in steps.items() if done is None))
        rows.append(row + [""] * (len(HEADINGS) - len(row)))
    typed = [member.command("train", work / member.model) for member in MEMBERS]
    typed += [MEMBERS[0].command(step, work / "NETWORK") for step in ("export", "evaluate")]
    table = [" | ".join(row) for row in [HEADINGS, ["---", *["---:"] * (len(HEADINGS) - 1)], *rows]]
    parts = [
        "# Every family on the digits",
        f"Made by `python docs/make_digits_table.py` from the answers of the commands below; {platform.machine()}, "
        "beside other work, one run each, numbers as they came. Settings were chosen by training accuracy and time, "
        "none by the test pictures. Drops are against the float network on the same pictures, with their 95 % "
        "interval; dB are of the logits of calibration pictures, `.pte / .tflite` where they differ, 'equal' to the "
        "last bit.",
        "\n".join(f"| {row} |" for row in table),
        f"**Files that lost more than 1 point of top-1:** {'; '.join(losses) or 'none'}.",
        *dict.fromkeys(notes),
        "\n".join(["```", *typed, "```\n"]),
    ]
    return "\n\n".join(parts)


def measured(bundle: BundleManifest, result: EvaluationResult) -> Iterator[str]:
    """The cells from the float network's accuracy on."""
    assert result.reference is not None  # a bundle carries its own
    here = sorted((file for file in result.files if file.target != "coreml"), key=lambda file: str(file.target))
    compared = {file.path: file.comparison for file in bundle.files}
    int8 = [file for file in here if file.precision == "int8"]
    yield f"{100 * result.reference.top1:.2f}"
    yield from (file.status if file.top1 is None else f"{100 * file.top1:.2f}" for file in int8)
    yield from map(drop, int8)
    for precision, key in (("fp32", "sqnr_float_db"), ("int8", "sqnr_float_db"), ("int8", "sqnr_graph_db")):
        values = [compared[file.path].get(key) for file in here if file.precision == precision]
        yield " / ".join(dict.fromkeys(map(decibels, values)))
    yield f"{sum(file.status == 'run' for file in result.files)} of {len(result.files)}"


def drop(file: FileResult) -> str:
    """Points of top-1 and their interval."""
    if file.comparison is None:
        return "–"
    low, high = file.comparison.interval_points
    return f"{file.comparison.drop_points:.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")


def decibels(value: float | None) -> str:
    """How near logits are to what they are compared with."""
    return "–" if value is None else "equal" if value >= EQUAL_DB else f"{value:.1f}"


@click.command()
@click.argument("models", nargs=-1, type=click.Choice([member.model for member in MEMBERS]))
@click.option("--work", default="runs/digits", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default=OUT, type=click.Path(path_type=Path), help="The page.  [default: docs/digits.md]")
def main(models: tuple[str, ...], work: Path, out: Path) -> None:
    """Train, export and evaluate MODELS, or all; the page is written at the end, after Ctrl-C too."""
    try:
        whole = [make(member, work / member.model) for member in MEMBERS if not models or member.model in models]
    finally:
        write_whole(out, page(work).encode())
    sys.exit(0 if all(whole) else 1)


if __name__ == "__main__":
    main()
