"""The camera program with a runtime that needs no library: run as a script, it is ``edge-camera`` for ``.fake`` files.

A ``.fake`` file is JSON: ``manifest``, and how the pretended runtime behaves. Its network answers with the mean red,
green and blue of its input, so that a test knows what must come out.
"""

import json
import time
from pathlib import Path

import numpy as np

from edge_apps.errors import MissingExtra, NotRunHere
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import parse_file_manifest
from edge_apps.runtime.runner import register_runner

MANIFEST = {
    "format": 1,
    "model": "colours",
    "options": {},
    "target": "tflite",
    "precision": "int8",
    "labels": ["red", "green", "blue"],
    "preprocess": {"height": 8, "width": 10},
    "provenance": {"checkpoint_sha256": "0"},
}


class FakeRunner:
    """Logits are the mean of each colour, divided by 10."""

    runtime = "fake 1.0"

    def __init__(self, content: Content, threads: int) -> None:
        self.path = path = content.path
        self.said = json.loads(content.data)
        if self.said.get("refuses") == "missing":
            raise MissingExtra("fake is not installed: pip install fake.")
        if self.said.get("refuses") == "not-run":
            raise NotRunHere("fake does not run on this machine.")
        self.manifest = parse_file_manifest(json.dumps(self.said["manifest"]), path)
        self.threads = self.said.get("threads", threads)
        self.calls = 0
        self.closed = False

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.calls += 1
        preprocess = self.manifest.preprocess
        assert batch.dtype == np.uint8
        assert batch.shape == (1, preprocess.height, preprocess.width, 3)
        time.sleep(self.said.get("seconds", 0))
        if self.calls == self.said.get("fails_at"):
            raise RuntimeError("the fake runtime broke")
        logits = batch.mean(axis=(1, 2)).astype(np.float32) / 10
        if self.calls in self.said.get("nan_at", []):
            logits[0, 1] = np.nan
        return np.repeat(logits, self.said.get("outputs", 3) // 3, axis=1)

    def close(self) -> None:
        self.closed = True


def write_fake(path: Path, *, manifest: dict | None = None, **behaviour: object) -> Path:
    """A ``.fake`` model file; ``manifest`` replaces single fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"manifest": {**MANIFEST, **(manifest or {})}, **behaviour}))
    return path


register_runner(".fake", FakeRunner)

if __name__ == "__main__":
    from edge_apps.camera.commands.main import main

    main()
