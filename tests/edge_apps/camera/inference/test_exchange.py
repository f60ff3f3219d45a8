"""A model file that is exchanged all the time: the bytes that run are those that were hashed, and no others."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_apps.camera.inference.model import open_model
from edge_apps.errors import ChangedFile
from edge_apps.runtime.manifest import Bundle

EXCHANGE = """
import itertools, os, shutil, sys
path, *others = sys.argv[1:]
print("ready", flush=True)
for number in itertools.count():
    beside = f"{path}.{number % 2}"
    shutil.copy(others[number % 2], beside)
    if number % 3:
        os.replace(beside, path)
    else:  # in place: the file that is open changes under its reader
        with open(beside, "rb") as source, open(path, "r+b") as target:
            data = source.read()
            target.write(data)
            target.truncate(len(data))
"""

OPENS = 1_000


@contextmanager
def exchanged(path: Path, *others: Path) -> Iterator[None]:
    """Another process gives a file the content of two others in turn."""
    process = subprocess.Popen([sys.executable, "-c", EXCHANGE, path, *others], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_what_runs_is_what_was_hashed(make_bundle, tmp_path: Path) -> None:
    """1,000 opens that succeed, of fake files whose runner keeps the bytes that it was given."""
    bundle = make_bundle([{"target": "tflite", "precision": "int8"}])
    path = bundle / "0-tflite-int8.fake"
    good, wrong = tmp_path / "good", tmp_path / "wrong"
    good.write_bytes(path.read_bytes())
    said = json.loads(good.read_bytes())
    wrong.write_bytes(json.dumps({**said, "manifest": {**said["manifest"], "labels": ["x", "y", "z"]}}).encode())
    listed = hashlib.sha256(good.read_bytes()).hexdigest()
    opened = refused = 0
    with exchanged(path, good, wrong):
        for number in itertools.count():
            try:
                model = open_model((bundle, path)[number % 2], None, None, 1)
            except ChangedFile:
                refused += 1
                continue
            assert model.sha256 == listed
            assert model.runner.manifest.labels == ("red", "green", "blue")
            opened += 1
            if opened >= OPENS and refused >= OPENS // 10:
                break


def test_a_real_file_that_is_exchanged(demo_bundle: Bundle, tmp_path: Path) -> None:
    """What answers is the int8 network, whatever lies at its path: the fp32 one is refused."""
    pytest.importorskip("ai_edge_litert")
    import shutil

    root = Path(shutil.copytree(demo_bundle.root, tmp_path / "bundle"))
    path = root / "mobilenet_v2-int8.tflite"
    listed = next(file.sha256 for file in demo_bundle.models() if file.path == path.name)
    opened = refused = 0
    with exchanged(path, demo_bundle.root / path.name, demo_bundle.root / "mobilenet_v2-fp32.tflite"):
        while opened < 100:
            try:
                model = open_model(path, None, None, 1)
            except ChangedFile:
                refused += 1
                continue
            assert (model.sha256, model.runner.manifest.precision) == (listed, "int8")
            model.runner.close()
            opened += 1
    assert refused
