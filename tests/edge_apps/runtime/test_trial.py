"""A file that nobody vouches for can crash, hang or fill the process that tries it out, and no other."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edge_apps import errors
from edge_apps.errors import BadInput
from edge_apps.runtime import trial
from edge_apps.runtime.content import Content
from edge_apps.runtime.trial import try_out

RUNTIME = """
import os, signal
from edge_apps.errors import BadInput, MissingExtra
from edge_apps.runtime.manifest import FileManifest, Provenance
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.runtime.runner import register_runner


def misbehave(word):
    if word == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == b"killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == b"memory":
        bytearray(3_000_000_000)
    if word == b"loop":
        while True:
            pass
    if word == b"missing":
        raise MissingExtra("Install the runtime.")
    if word == b"fault":
        raise ZeroDivisionError
    if word == b"exit":
        os._exit(3)


class Runner:
    def __init__(self, content, threads, *, xnnpack=True):
        self.content = content
        self.manifest = FileManifest(
            format=1, model="m", options={}, target="mine", precision="int8", labels=("a",),
            preprocess=Preprocess(height=8, width=10), provenance=Provenance(checkpoint_sha256="0"),
        )
        if not content.data:
            raise BadInput("empty")
        print("chatter")
        misbehave(content.data.removeprefix(b"load "))

    def run(self, batch):
        assert batch.shape == (1, 8, 10, 3)
        misbehave(self.content.data.removeprefix(b"run "))

    def close(self):
        pass


register_runner(".mine", Runner, without_xnnpack=Runner)
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime for ``.mine`` in every child, and short limits."""
    (tmp_path / "sitecustomize.py").write_text(RUNTIME)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(trial, "_passed", set())


def content(word: bytes) -> Content:
    return Content(Path("some/model.mine"), {"": word})


def test_what_runs_passes_and_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    try_out(content(b"good"))
    monkeypatch.setattr(trial, "_in_child", lambda *_: pytest.fail("tried again"))
    try_out(content(b"good"))


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (b"load crash", r"'some/model.mine' cannot be used: its runtime crashed \(SIGSEGV\) when it was loaded: it is"),
        (b"run crash", r"its runtime crashed \(SIGSEGV\) when it was run: it is damaged"),
        (b"run killed", r"its runtime crashed \(SIGKILL\) when it was run"),
        (b"load exit", r"its runtime crashed \(status 3\) when it was loaded"),
        (b"run memory", r"'some/model.mine' takes more than 512 MB of memory: it is damaged"),
        (b"run fault", r"its runtime crashed \(status 1\) when it was run"),
    ],
)
def test_what_harms_its_process_is_one_line_here(word: bytes, says: str) -> None:
    with pytest.raises(BadInput, match=says) as error:
        try_out(content(word))
    assert "\n" not in str(error.value)


def test_an_error_of_the_runner_is_the_same_error_here() -> None:
    with pytest.raises(errors.MissingExtra, match=r"^Install the runtime\.$"):
        try_out(content(b"load missing"))


def test_what_does_not_end_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(BadInput, match="cannot be run: it did not end within 6 s of computing"):
        try_out(content(b"run loop"))
    assert time.monotonic() - began < trial.WAITING * 6
