"""The options that say which model runs and how, the same for every command that runs one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_apps.runtime.precisions import PRECISIONS

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--model",
        "-m",
        required=True,
        type=click.Path(path_type=Path),
        help="A bundle, or one exported file of any kind.",
    ),
    click.option(
        "--trust",
        metavar="PUBLIC-KEY",
        type=click.Path(path_type=Path),
        help="Run only files of a bundle that is signed with this key (Ed25519, PEM or OpenSSH); see docs/signing.md.",
    ),
    click.option(
        "--target",
        help="Which files of a bundle: a target (executorch, coreml, tflite) or suffix (pte, mlpackage). "
        "A single file must be of it.",
    ),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        help="Likewise. Without both: an int8 file that this machine can run, else fp16, else fp32; .tflite first.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, 1024),  # a runtime given more than its integers hold tells its own types
        help="Threads of one inference. [default: all cores, at most 4]",
    ),
    click.option(
        "--xnnpack/--no-xnnpack",
        default=True,
        help="Whether .tflite is computed by XNNPACK, or by LiteRT's own, slower kernels, which round otherwise.",
    ),
)


def model_options(command: Command) -> Command:
    """Give a command the parameters ``model``, ``trust``, ``target``, ``precision``, ``threads`` and ``xnnpack``."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
