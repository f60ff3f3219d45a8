"""Writes ``docs/digits.md`` and ``docs/cifar10.md``: every family trained, exported and evaluated.

``python docs/make_accuracy_tables.py digits`` in the repository's root does all of one page, ``… cifar10 effnet`` this
network of it; with ``--repairs`` also what the page's second table shows. Every step is a command of ``pipeline``; one
that left its answer under ``--work`` is not given again. A network that is there, or in ``docs/networks``, is not
trained again, and the page has the command that its checkpoint records: delete both to train it otherwise. CIFAR-10 is
expected as JPEG files in ``cifar10/train.tar`` and ``cifar10/test.tar``, one folder for each class.
"""

import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from calibration.ranges import Ranges
from edge_apps.files import write_whole
from edge_apps.runtime.manifest import BundleManifest
from pipeline import zoo
from pipeline.checkpoints.load import load
from pipeline.evaluation.results import EvaluationResult, FileResult
from pipeline.metrics.sqnr import EQUAL_DB
from pipeline.zoo.complexity.count import count_model

MOST_DROP, MOST_HIGH = 0.5, 1.0
"""Points of top-1: what a file may lose, and the upper end of the interval."""

NETWORK = "network.safetensors"
KEPT = Path(__file__).with_name("networks")
"""Small ones that took long to train."""

HEADINGS = (
    "network", "input", "params", "train, min", "float top-1 %", "int8 .pte top-1 %", "int8 .tflite top-1 %",
    "drop of .pte, points", "drop of .tflite, points", "fp32 vs float, dB", "int8 vs float, dB",
    "int8 vs own graph, dB", "files run",
)  # fmt: skip

REPAIRS = ("equalize", "adaround", "bias")
RUNGS = ("none", *(f"+ {repair}" for repair in REPAIRS))
SCALES = ("per-channel", "per-tensor")
REPAIR_HEADINGS = (
    "network", "weights' scales", *(f"{rung}, dB" for rung in RUNGS), "drop without, points", "drop with all, points"
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A network and how it is trained; ``aim`` is the float top-1 in % that it should reach."""

    model: str
    options: str
    side: int
    epochs: int
    lr: float = 0.003
    precision: str = "fp32"
    aim: float = 0.0


@dataclass(frozen=True)
class Suite:
    """A page: its networks, the pictures, and the command that trains each."""

    name: str
    title: str
    about: str
    train: str
    data: str
    test: str
    members: tuple[Member, ...]

    @property
    def out(self) -> Path:
        """The page."""
        return Path(__file__).with_name(f"{self.name}.md")

    @property
    def steps(self) -> dict[str, str]:
        """The commands that each network goes through for the first table."""
        return {"train": self.train, **self._exported("bundle", "--target all")}

    @property
    def repair_steps(self) -> dict[str, str]:
        """Those for the second: int8 once with repairs, and with one scale for each layer also without."""
        repaired, one_scale = f"--repair {','.join(REPAIRS)}", "--scales per-tensor"
        made = {"repaired": repaired, "per-tensor": one_scale, "per-tensor-repaired": f"{one_scale} {repaired}"}
        found: dict[str, str] = {}
        for bundle, options in made.items():
            found |= self._exported(bundle, f"--target tflite --precision int8 {options}")
        return found

    def command(self, member: Member, step: str, folder: Path) -> str:
        """What is typed for a step."""
        template = (self.steps | self.repair_steps)[step]
        return " ".join(template.format(**vars(member), folder=shlex.quote(str(folder))).split())

    def _exported(self, bundle: str, options: str) -> dict[str, str]:
        suffix = "" if bundle == "bundle" else f"-{bundle}"
        export = f"pipeline export {{folder}}/network.safetensors {options} --data {self.data}"
        return {
            f"export{suffix}": f"{export} --out {{folder}}/{bundle} --force --json",
            f"evaluate{suffix}": f"pipeline evaluate {{folder}}/{bundle} --data {self.test} --threads 1 --json",
        }


# Without batch normalisation (AlexNet, SqueezeNet, GoogLeNet as published) at a lower rate than with it.
DIGITS = Suite(
    "digits",
    "Every family on the digits",
    "Settings were chosen by training accuracy and time, none by the test pictures.",
    "pipeline train {model} {options} --data digits --input {side} --epochs {epochs} --lr {lr} "
    "--batch-size 32 --precision {precision} --threads 1 --restart --force --out {folder}/network.safetensors",
    "digits",
    "digits:test",
    (
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
    ),
)
CIFAR10 = Suite(
    "cifar10",
    "Families on CIFAR-10",
    "50,000 pictures to train on, judged on all 10,000 of the test set, which no choice was made by. As many epochs as "
    "a few hours of two processor cores allowed: with more, float accuracy would be higher. For the same reason some "
    "are narrowed, AlexNet is its one-tower variant, and GoogLeNet and VGG-A have batch normalisation.",
    "pipeline train {model} {options} --input {side} --epochs {epochs} --lr {lr} --data cifar10/train.tar "
    "--precision {precision} --threads 1 --dtype fp16 --out {folder}/network.safetensors",
    "cifar10/train.tar",
    "cifar10/test.tar",
    (
        Member("mobilenet_v2", "", 64, 12, aim=80),
        Member("efficientnet_b0", "", 64, 10, aim=80),
        Member("squeezenet_1_1", "", 64, 12, lr=0.001, precision="bf16"),
        Member("shufflenet_v1", "--groups 3", 64, 12),
        Member("mobilenet_v1", "--width 0.5", 64, 12),
        Member("fd_mobilenet", "", 64, 12),
        Member("effnet", "", 32, 20),
        Member("resnet18", "", 64, 8, precision="bf16", aim=80),
        Member("resnet_cifar", "--units 1", 28, 30),
        Member("se_resnet18", "--width 0.5", 64, 10, precision="bf16"),
        Member("googlenet_bn", "--width 0.5", 64, 10, precision="bf16"),
        Member("alexnet_one_tower", "--width 0.5 --grid 1", 64, 12, lr=0.001, precision="bf16"),
        Member("vgg_a", "--width 0.5 --grid 1 --batch-norm", 32, 12, precision="bf16"),
    ),
)
SUITES = {suite.name: suite for suite in (DIGITS, CIFAR10)}


class Done(msgspec.Struct, frozen=True):
    """A command that ended well; kept as ``<step>.json``, and what it said to stderr as ``<step>.log``."""

    command: str
    seconds: float
    stdout: str


def read(suite: Suite, member: Member, step: str, folder: Path) -> Done | None:
    """What an earlier run of this very command left."""
    path = folder / f"{step}.json"
    done = msgspec.json.decode(path.read_bytes(), type=Done) if path.exists() else None
    return done if done and done.command == suite.command(member, step, folder) else None


def make(suite: Suite, member: Member, folder: Path, steps: Iterable[str]) -> bool:
    """Do what is not done, and tell whether all ended well; a network that is trained makes all else stale."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = KEPT / suite.name / f"{member.model}.safetensors"
    if kept.exists() and not (folder / NETWORK).exists():
        write_whole(folder / NETWORK, kept.read_bytes())
        for path in folder.glob("*.json"):
            path.unlink()
    for step in steps:
        if (folder / NETWORK).exists() if step == "train" else read(suite, member, step, folder):
            continue
        stale = "*.json" if step == "train" else f"{step.replace('export', 'evaluate')}.json"
        for path in folder.glob(stale):
            path.unlink()
        command, start = suite.command(member, step, folder), time.monotonic()
        click.echo(command)
        with (folder / f"{step}.log").open("a") as log:
            words = [str(Path(sys.executable).with_name("pipeline")), *shlex.split(command)[1:]]
            ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
        if ended.returncode != 0:
            (folder / f"{step}.out").write_text(ended.stdout, "utf-8")
            click.echo(f"Exit status {ended.returncode}: see {folder / step}.log and .out")
            return False
        if step != "train":
            done = Done(command, time.monotonic() - start, ended.stdout)
            write_whole(folder / f"{step}.json", msgspec.json.encode(done))
    return True


def minutes(log: Path) -> float | None:
    """Of the training that a log ends with, over all its sittings; None without a log."""
    if not log.exists():
        return None
    whole, sitting = 0.0, 0.0
    for line in log.read_text("utf-8").splitlines():
        epoch = re.match(r"epoch (\d+)/.*?([\d.]+) min, about", line)
        if epoch:
            whole, sitting = 0.0 if int(epoch[1]) == 1 else whole, float(epoch[2])
        elif line.startswith("Taken up after epoch"):
            whole, sitting = whole + sitting, 0.0
    return whole + sitting


def page(suite: Suite, work: Path) -> str:
    """The document, from what lies under ``work``."""
    rows, losses, missing, short, notes, typed = [], [], [], [], [], []
    for member in suite.members:
        folder, row = work / member.model, [_named(member), str(member.side)]
        trained = load(folder / NETWORK).training.get("command") if (folder / NETWORK).exists() else None
        typed.append(_typed(trained, folder / NETWORK) if trained else suite.command(member, "train", folder))
        export, evaluate = (read(suite, member, step, folder) for step in list(suite.steps)[1:])
        if trained and export and evaluate:
            bundle = msgspec.json.decode(export.stdout, type=BundleManifest)
            result = msgspec.json.decode(evaluate.stdout, type=EvaluationResult)
            params = count_model(zoo.get(bundle.model), bundle.options, member.side, len(bundle.labels)).params
            spent = minutes(folder / "train.log")
            row += [f"{params:,}", "–" if spent is None else f"{spent:.1f}", *measured(bundle, result)]
            judged = [file for file in result.files if file.comparison]
            losses += [f"{file.path} {drop(file)}" for file in judged if not _is_kept(file)]
            if result.reference and 100 * result.reference.top1 < member.aim:
                short.append(f"{_named(member)} ({100 * result.reference.top1:.2f} %, aim {member.aim:g} %)")
            notes += [f"Not run: {file.reason.partition(': ')[2]}" for file in result.files if file.reason]
            notes.append(", ".join(f"{tool} {version}" for tool, version in bundle.provenance.tools.items()) + ".")
            notes.append(f"{result.data}: {result.images} pictures, one is {100 / result.images:.2f} points.")
        else:
            row.append(f"not run: {'train' if not trained else 'export' if not export else 'evaluate'}")
            missing.append(_named(member))
        rows.append(row)
    repaired = [row for member in suite.members for row in repairs(suite, member, work / member.model)]
    any_network = (suite.members[0], work / "NETWORK")
    typed += [suite.command(any_network[0], step, any_network[1]) for step in list(suite.steps)[1:]]
    parts = [
        f"# {suite.title}",
        f"Made by `python docs/{Path(__file__).name} {suite.name}{' --repairs' if repaired else ''}` from the answers "
        f"of the commands below; {platform.machine()}, beside other work, one run each, numbers as they came. "
        f"{suite.about} Every draw has seed 0. Drops are against the float network on the same pictures, with their "
        "95 % interval; dB are of the logits of calibration pictures, `.pte / .tflite` where they differ, 'equal' to "
        "the last bit.",
        _table(HEADINGS, rows),
        f"**Files that lost more than {MOST_DROP:g} points of top-1, or may have lost more than {MOST_HIGH:g} by the "
        f"upper end of the interval:** {'; '.join(losses) or 'none of those that were run'}.",
    ]
    if any(member.aim for member in suite.members):
        parts.append(f"**Float networks below their aim:** {'; '.join(short) or 'none of those that were run'}.")
    kept = sorted(path.stem for path in (KEPT / suite.name).glob("*.safetensors"))
    if kept:
        parts.append(
            f"Trained networks are kept in [docs/networks/{suite.name}](networks/{suite.name}): {', '.join(kept)}. "
            "Weights are stored in 16 bit there."
        )
    parts.append(f"**Not measured yet:** {', '.join(missing) or 'none'}.")
    parts += dict.fromkeys(notes)
    if repaired:
        parts += [
            "## What each repair contributes",
            "dB are of the simulated int8 logits against the float network's, on 64 pictures that calibrated nothing, "
            "with the repairs up to this one; drops are of the int8 `.tflite` on all test pictures.",
            _table(REPAIR_HEADINGS, repaired),
        ]
        typed += [suite.command(any_network[0], step, any_network[1]) for step in suite.repair_steps]
    return "\n\n".join([*parts, "\n".join(["```", *typed, "```\n"])])


def repairs(suite: Suite, member: Member, folder: Path) -> Iterator[list[str]]:
    """Rows of the second table: one for each kind of scales that was measured."""
    for scales, plain, repaired in zip(
        SCALES, ("evaluate", "evaluate-per-tensor"), ("repaired", "per-tensor-repaired"), strict=True
    ):
        without, having = (read(suite, member, step, folder) for step in (plain, f"evaluate-{repaired}"))
        if without is None or having is None:
            continue
        effects = msgspec.json.decode((folder / repaired / "ranges.json").read_bytes(), type=Ranges).effects
        if [effect.repairs for effect in effects] != [REPAIRS[:count] for count in range(len(REPAIRS) + 1)]:
            raise click.ClickException(f"'{folder / repaired}' has other repairs than {', '.join(REPAIRS)}.")
        drops = (drop(_int8_tflite(done)) for done in (without, having))
        yield [_named(member), scales, *(f"{effect.sqnr_db:.1f}" for effect in effects), *drops]


def _int8_tflite(done: Done) -> FileResult:
    files = msgspec.json.decode(done.stdout, type=EvaluationResult).files
    return next(file for file in files if (file.target, file.precision) == ("tflite", "int8"))


def _typed(recorded: str, out: Path) -> str:
    """A recorded command, whose files lay where they lay, as one types it in the repository's root."""
    words = shlex.split(recorded)
    words[words.index("--out") + 1] = str(out)
    data = words.index("--data") + 1
    words[data] = str(Path(*Path(words[data]).parts[-2:])) if words[data].startswith("..") else words[data]
    return " ".join(words)


def _named(member: Member) -> str:
    return f"{member.model} {member.options}".strip()


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    filled = [[*row, *[""] * (len(headings) - len(row))] for row in rows]
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *filled]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_kept(file: FileResult) -> bool:
    assert file.comparison is not None
    return file.comparison.drop_points <= MOST_DROP and file.comparison.interval_points[1] <= MOST_HIGH


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
@click.argument("name", metavar="PAGE", type=click.Choice(list(SUITES)))
@click.argument("models", nargs=-1)
@click.option("--repairs", "with_repairs", is_flag=True, help="Also what each repair contributes.")
@click.option("--work", type=click.Path(path_type=Path), help="[default: runs/PAGE]")
@click.option("--out", type=click.Path(path_type=Path), help="The page.  [default: docs/PAGE.md]")
def main(name: str, models: tuple[str, ...], with_repairs: bool, work: Path | None, out: Path | None) -> None:
    """Train, export and evaluate MODELS, or all; the page is written at the end, after Ctrl-C too."""
    suite = SUITES[name]
    work = work or Path("runs", name)
    steps = [*suite.steps, *(suite.repair_steps if with_repairs else ())]
    unknown = set(models) - {member.model for member in suite.members}
    if unknown:
        raise click.BadParameter(f"not on this page: {', '.join(sorted(unknown))}")
    try:
        chosen = [member for member in suite.members if not models or member.model in models]
        whole = [make(suite, member, work / member.model, steps) for member in chosen]
    finally:
        write_whole(out or suite.out, page(suite, work).encode())
    sys.exit(0 if all(whole) else 1)


if __name__ == "__main__":
    main()
