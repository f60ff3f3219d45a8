"""Open any exported file: ``open_runner(path)`` reads it with care and picks the runtime by its suffix."""

from __future__ import annotations

from pathlib import Path

from edge_apps.errors import BadInput
from edge_apps.runtime.content import Content
from edge_apps.runtime.model_file import read_model
from edge_apps.runtime.registry import (
    Runner,
    RunnerFactory,
    check_batch,
    check_outputs,
    check_suffix,
    known_suffixes,
    needs_trial,
    open_content,
    register_runner,
    runs_elsewhere,
    runs_side_by_side,
)

__all__ = [
    "Runner",
    "RunnerFactory",
    "check_batch",
    "check_outputs",
    "check_suffix",
    "known_suffixes",
    "needs_trial",
    "open_runner",
    "register_runner",
    "runs_elsewhere",
    "runs_side_by_side",
]


def open_runner(file: Path | Content, threads: int = 1, *, xnnpack: bool = True) -> Runner:
    """Open an exported file for inference on ``threads`` threads; without ``xnnpack`` on the runtime's own kernels.

    A path is read as ``edge_apps.runtime.model_file.read_model`` reads it: held to the bundle that it lies in, or tried
    out in another process first. The runtime gets the bytes of a ``Content`` as they are, whatever is on disk by now;
    bytes that nobody vouches for can crash it.

    Raises:
        BadInput: no such file, unknown suffix, a foreign file, one that has no other kernels. MissingExtra: the runtime
            is not installed. NotRunHere: this machine cannot run such files at all. BadManifest: the file does not
            describe itself. ChangedFile: its bytes are not those that its bundle records.
    """
    if threads < 1:
        raise BadInput(f"threads is {threads}; at least 1 is needed.")
    content = file if isinstance(file, Content) else read_model(file, xnnpack=xnnpack).content
    return open_content(content, threads, xnnpack=xnnpack)
