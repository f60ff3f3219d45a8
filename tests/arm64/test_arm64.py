"""The camera program on a Raspberry Pi's processors gives the answers that it gives here.

Debian bookworm for arm64 and the real aarch64 wheels run under QEMU's user mode as a Cortex-A72 and a Cortex-A76 (a
Cortex-A53 too with ``-m long``): no board, no container, no root. It says nothing of a board's speed. Downloads are
kept in ``$EDGE_ARM64_CACHE``, by default in the system's temporary folder; ``board.py`` runs the program by hand.

    python -m pytest tests/arm64 --no-cov
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from board import Board, run

from edge_apps.images import list_pictures, write_png
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import Bundle
from edge_apps.runtime.preprocess import to_input

HERE = Path(__file__).parent
PICTURES = 10
FP32_LIMIT = 1e-5
"""Between sums of float32 that two processors add up in different orders; the logits are around 5."""


@dataclass(frozen=True)
class Program:
    """A file, and with which of the board's environments it is run."""

    file: str
    site: str = "litert"
    runtime: str = "ai-edge-litert "


PROGRAMS = [
    Program("mobilenet_v2-int8.tflite"),
    Program("mobilenet_v2-fp32.tflite"),
    Program("mobilenet_v2-int8.pte", runtime="executorch "),
    Program("mobilenet_v2-fp32.pte", runtime="executorch "),
    Program("mobilenet_v2-int8.tflite", "tflite", "tflite-runtime "),
]


@dataclass(frozen=True)
class Run:
    """What one run of ``edge-camera`` said, and the logits of every input by its hash."""

    session: dict[str, Any]
    labels: dict[str, str]
    about: dict[str, Any]
    logits: dict[str, np.ndarray]
    log: Path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits that the built-in network was never trained on."""
    from pipeline.data import open_data

    digits = open_data("digits", "test")
    folder = tmp_path_factory.mktemp("digits")
    for index in range(PICTURES):
        write_png(folder / f"{index}.png", digits.image(index * len(digits) // PICTURES))
    return folder


Classify = Callable[[Callable[[list[str]], Any], str, Path], Run]


@pytest.fixture(scope="module")
def classify(demo_bundle: Bundle, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Classify:
    """``classify(python, file, log)``: ``edge-camera run`` on the digits, by that Python."""

    def classify(python: Callable[[list[str]], Any], file: str, log: Path) -> Run:
        record = tmp_path_factory.mktemp("record") / "record.json"
        camera = ["run", "--model", str(demo_bundle.root / file), "--source", f"folder:{pictures}"]
        ended = python([str(HERE / "on_device.py"), str(record), *camera, "--threads=2", "--json", f"--log={log}"])
        session, *frames, summary = map(json.loads, ended.stdout.splitlines())
        assert (summary["frames"], summary["skipped"], len(frames)) == (PICTURES, 0, PICTURES)
        about = json.loads(record.read_text())
        logits = {key: np.frombuffer(bytes.fromhex(row), np.float32) for key, row in about.pop("logits").items()}
        return Run(session, {frame["name"]: frame["top"][0]["label"] for frame in frames}, about, logits, log)

    return classify


def here(arguments: list[str]) -> Any:
    """The Python that runs these tests."""
    return run([sys.executable, *arguments])


@pytest.fixture(scope="module")
def expected(classify: Classify, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """``expected(file)``: what the file answers on this machine."""
    known: dict[str, Run] = {}

    def expected(file: str) -> Run:
        if file not in known:
            known[file] = classify(here, file, tmp_path_factory.mktemp("log") / "latency.db")
        return known[file]

    return expected


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: f"{program.file}-{program.site}")
def test_the_same_answers(
    program: Program,
    board: Board,
    classify: Classify,
    expected: Callable[[str], Run],
    demo_bundle: Bundle,
    pictures: Path,
    tmp_path: Path,
) -> None:
    reference = expected(program.file)
    log = tmp_path / "latency.db"
    log.write_bytes(reference.log.read_bytes())  # begun on this machine, continued on the board
    answers = classify(lambda arguments: board.run(program.site, arguments), program.file, log)

    assert answers.about["machine"] == answers.session["device"]["arch"] == "aarch64"
    assert answers.session["runtime"].startswith(program.runtime)
    assert answers.about["native"] == program.file.endswith(".pte")  # torch is not there to fall back on
    assert answers.labels == reference.labels
    assert answers.logits.keys() == reference.logits.keys()  # the inputs, bit by bit
    if program.site == "tflite":
        _assert_as_reference_kernels(answers, demo_bundle.root / program.file, pictures)
    elif "int8" in program.file:
        assert _farthest(answers, reference) == 0
    else:
        assert _farthest(answers, reference) <= FP32_LIMIT
    _assert_logged(log, reference, answers)


def _farthest(answers: Run, reference: Run) -> float:
    return max(float(np.abs(row - reference.logits[key]).max()) for key, row in answers.logits.items())


def _assert_as_reference_kernels(answers: Run, file: Path, pictures: Path) -> None:
    """tflite-runtime computes int8 on Arm to the bit as TFLite's reference kernels do, which are the same everywhere.

    LiteRT hands such files to XNNPACK, which rounds otherwise after each layer: by the last layer that adds up to
    3 steps of the int8 output.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from edge_apps.runtime.runner import open_runner

    interpreter = Interpreter(str(file), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = answer["quantization"]
    preprocess = open_runner(Content.read(file)).manifest.preprocess
    found = list_pictures(pictures)
    for index in range(len(found)):
        picture = to_input(found.image(index), preprocess)
        interpreter.set_tensor(given["index"], picture[None])
        interpreter.invoke()
        steps = interpreter.get_tensor(answer["index"])[0].astype(np.float32) - zero_point
        logits = answers.logits[hashlib.sha256(picture.tobytes()).hexdigest()]
        assert np.array_equal(np.round(logits / scale), steps)


def _assert_logged(log: Path, *runs: Run) -> None:
    """The log, written there, is whole and says here what either run said."""
    database = sqlite3.connect(log)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    sessions = database.execute("SELECT id, fingerprint, runtime, ended_by FROM session ORDER BY id").fetchall()
    assert [row[1:] for row in sessions] == [
        (run.session["fingerprint"], run.session["runtime"], "end of source") for run in runs
    ]
    for (number, *_), each in zip(sessions, runs, strict=True):
        rows = database.execute("SELECT name, label FROM frame WHERE session = ?", (number,)).fetchall()
        assert dict(rows) == each.labels
    database.close()
    summary = here(["-m", "edge_apps.camera", "log", "summary", str(log), "--json"]).stdout
    assert all(each.session["fingerprint"] in summary for each in runs)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of awkward sizes: noise, soft colours, grey, and one that is stored lying on its side."""
    folder = tmp_path_factory.mktemp("drawn")
    random = np.random.default_rng(0)
    for height, width in [(1, 1), (4, 5), (53, 37), (480, 640), (1080, 1920)]:
        noise = random.integers(0, 256, (height, width, 3), np.uint8)
        soft = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"noise-{width}.png"), noise)
        cv2.imwrite(str(folder / f"soft-{width}.jpg"), soft, [cv2.IMWRITE_JPEG_QUALITY, 85])
        cv2.imwrite(str(folder / f"grey-{width}.jpg"), soft[..., 0])
    plain = (folder / "soft-640.jpg").read_bytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    turned = plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    (folder / "turned.jpg").write_bytes(turned)
    assert cv2.imread(str(folder / "turned.jpg")).shape == (640, 480, 3)
    return folder


@pytest.fixture(scope="module")
def photographs(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen real ones, by different cameras."""
    folder = tmp_path_factory.mktemp("photographs")
    found = sorted((shared_data / "photos").rglob("*.jpg"))
    for path in found[:: max(1, len(found) // 12)]:
        (folder / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    assert any(folder.iterdir())
    return folder


@pytest.mark.parametrize(("site", "kind"), [("litert", "drawn"), ("litert", "photographs"), ("tflite", "drawn")])
def test_pictures_become_the_same_inputs(site: str, kind: str, board: Board, request: pytest.FixtureRequest) -> None:
    """Decoded, resized and cropped to the same bits, by OpenCV 5 and by the OpenCV 4.11 that numpy 1 goes with."""
    program = [str(HERE / "hash_inputs.py"), str(request.getfixturevalue(kind))]
    there = json.loads(board.run(site, program).stdout)
    assert there == json.loads(here(program).stdout)
    assert len(set(there.values())) > len(there) // 2


DOT_PRODUCT = "import ctypes; print(ctypes.CDLL(None).getauxval(16) >> 20 & 1)"  # AT_HWCAP, HWCAP_ASIMDDP


def test_a_core_has_its_own_instructions_and_no_others(board: Board) -> None:
    has = board.run("litert", ["-c", DOT_PRODUCT]).stdout.strip()
    assert has == {"cortex-a53": "0", "cortex-a72": "0", "cortex-a76": "1"}[board.core]
