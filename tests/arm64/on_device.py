"""``edge-camera``, and beside its own output a record of what went into its model and what came out, bit by bit.

    python on_device.py RECORD.json run --model … --source …

Runs on the emulated board and, for comparison, on the machine that emulates it. One process, no subprocess.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_apps.camera.commands.main import main
from edge_apps.runtime.executorch import ExecuTorchRunner
from edge_apps.runtime.executorch_native import NativeProgram
from edge_apps.runtime.litert import LiteRTRunner


def record_runs(runner_class: Any, record: dict[str, Any]) -> None:
    """Let every run of the class's runners leave its logits under the hash of the bytes that went in."""
    run = runner_class.run

    def recorded(self: Any, batch: np.ndarray) -> np.ndarray:
        logits = run(self, batch)
        for picture, row in zip(batch, logits, strict=True):
            record["logits"][hashlib.sha256(picture.tobytes()).hexdigest()] = row.tobytes().hex()
        record["native"] = isinstance(getattr(self, "_program", None), NativeProgram)
        return logits

    runner_class.run = recorded


if __name__ == "__main__":
    about: dict[str, Any] = {"machine": platform.machine(), "opencv": cv2.__version__, "logits": {}}
    for each in (LiteRTRunner, ExecuTorchRunner):
        record_runs(each, about)
    try:
        main(sys.argv[2:])
    finally:
        Path(sys.argv[1]).write_text(json.dumps(about), encoding="utf-8")
