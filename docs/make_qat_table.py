"""Writes the table of ``docs/qat.md``: int8 before and after a short training that simulates it.

``python docs/make_qat_table.py`` in the repository's root, after ``make_accuracy_tables.py digits mobilenet_v1`` and
with CIFAR-10 in ``cifar10/``. Every step is a command of ``pipeline``; one that left its answer under ``--work`` is not
given again.
"""

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from edge_apps.files import write_whole
from pipeline.evaluation.results import EvaluationResult

PAGE = Path(__file__).with_name("qat.md")
MARK = "<!-- docs/make_qat_table.py writes what follows -->\n"
HEADINGS = ("network", "k", "with", "float", "int8", "epochs", "after: float", "int8")


@dataclass(frozen=True)
class Row:
    """A MobileNet V1, how much its channels are set apart, and how it is trained on."""

    name: str
    network: Path
    data: str
    test: str
    k: int
    epochs: int
    repair: str = ""

    @property
    def options(self) -> str:
        """Of export and training alike."""
        return f"--scales per-tensor --data {self.data}{f' --repair {self.repair}' if self.repair else ''}"


DIGITS = ("V1 0.25, digits", Path("runs/digits/mobilenet_v1/network.safetensors"), "digits", "digits:test")
CIFAR10 = (
    "V1 0.5, CIFAR-10",
    Path("docs/networks/cifar10/mobilenet_v1.safetensors"),
    "cifar10/train.tar",
    "cifar10/test.tar",
)
ROWS = (
    Row(*DIGITS, k=0, epochs=2),
    Row(*CIFAR10, k=0, epochs=1),
    Row(*DIGITS, k=3, epochs=2),
    Row(*CIFAR10, k=3, epochs=1),
    Row(*DIGITS, k=5, epochs=2),
    Row(*DIGITS, k=5, epochs=2, repair="equalize"),
)


def set_apart(network: Path, k: int, out: Path) -> None:
    """Scale every depthwise channel by its own 2^−kU, U uniform in 0…1, and what reads it by the inverse.

    There is a ReLU between them, so that the float network stays what it is; one scale for a layer's weights does not.
    """
    with safe_open(network, "pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    chance = torch.Generator().manual_seed(0)
    for name in [name for name in state if name.endswith("depthwise.1.weight")]:
        unit = name.removesuffix("depthwise.1.weight")
        factor = 2 ** (-k * torch.rand(len(state[name]), generator=chance))
        state[name] *= factor
        state[f"{unit}depthwise.1.bias"] *= factor
        state[f"{unit}pointwise.0.weight"] /= factor.view(1, -1, 1, 1)
    save_file(state, out, metadata)


def commands(row: Row) -> tuple[str, ...]:
    """What is typed for a row, in its folder's terms."""
    made = "pipeline export {0} --target tflite --precision int8 {1} --out {2} --force"
    judged = "pipeline evaluate {0} --data {1} --threads 1 --json"
    return (
        made.format("apart.safetensors", row.options, "before"),
        judged.format("before", row.test),
        f"pipeline train --qat apart.safetensors {row.options} --epochs {row.epochs} --threads 1 --out qat.safetensors",
        made.format("qat.safetensors", row.options, "after"),
        judged.format("after", row.test),
    )


def answer(command: str, folder: Path, number: int) -> str:
    """What a command says on stdout, now or when it was given before."""
    kept = folder / f"{number}.out"
    if not kept.exists():
        here = {"apart.safetensors", "qat.safetensors", "before", "after"}
        words = [str(folder / word) if word in here else word for word in shlex.split(command)]
        words[0] = str(Path(sys.executable).with_name("pipeline"))
        click.echo(command)
        ended = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        write_whole(kept, ended.stdout.encode())
    return kept.read_text("utf-8")


def accuracies(answered: str) -> tuple[str, str]:
    """Top-1 in % of the float network and of the int8 file."""
    result = msgspec.json.decode(answered, type=EvaluationResult)
    (file,) = result.files
    assert result.reference is not None
    assert file.top1 is not None
    return f"{100 * result.reference.top1:.2f}", f"{100 * file.top1:.2f}"


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/qat"), show_default=True)
def main(work: Path) -> None:
    """Do every row, then write the page's table."""
    lines = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1))]
    for row in ROWS:
        folder = work / f"{row.network.parent.name}-{row.k}{row.repair}"
        folder.mkdir(parents=True, exist_ok=True)
        set_apart(row.network, row.k, folder / "apart.safetensors")
        answers = [answer(command, folder, number) for number, command in enumerate(commands(row))]
        before, after = accuracies(answers[1]), accuracies(answers[4])
        lines.append((row.name, str(row.k), row.repair or "–", *before, str(row.epochs), *after))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    typed = "\n".join(commands(ROWS[-1]))
    text = PAGE.read_text("utf-8").partition(MARK)[0]
    write_whole(PAGE, f"{text}{MARK}\n{table}\n\nThe commands of the last row:\n\n```\n{typed}\n```\n".encode())


if __name__ == "__main__":
    main()
