"""Damaged inputs of every kind that comes from outside are accepted or refused in one line: never anything else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CAMPAIGN = Path(__file__).with_name("campaign.py")

DEVICE = ("images", "tars", "logs", "mjpeg", "configuration", "manifests", "videos")
WORKBENCH = ("archives", "programs", "ranges", "recipes", "labels")

FEW, MANY = 2_000, 100_000


def campaign(kind: str, count: int) -> dict[str, Any]:
    command = [sys.executable, str(CAMPAIGN), kind, "0", str(count)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def run(kind: str, count: int) -> None:
    found = campaign(kind, count)
    print(json.dumps({key: value for key, value in found.items() if key != "faults"}))
    shown = [
        f"python tests/fuzz/campaign.py {fault['kind']} {fault['seed']} 1\n{fault['what']}" for fault in found["faults"]
    ]
    assert not shown, f"{len(shown)} faults, of which the first:\n" + "\n".join(shown[:5])
    assert found["accepted"] + found["refused"] == count


@pytest.mark.parametrize("kind", DEVICE + WORKBENCH)
def test_damaged_inputs_are_refused_in_one_line(kind: str) -> None:
    if kind in WORKBENCH:
        pytest.importorskip("torch")
    run(kind, FEW)


@pytest.mark.parametrize("kind", ["images", "logs", "archives", "programs"])
def test_a_seed_means_the_same_input_in_every_process(kind: str) -> None:
    if kind in WORKBENCH:
        pytest.importorskip("torch")
    first, second = (campaign(kind, 50) for _ in range(2))
    assert (first["corpus"], first["accepted"]) == (second["corpus"], second["accepted"])


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", DEVICE + WORKBENCH)
def test_many_damaged_inputs_are_refused_in_one_line(kind: str) -> None:
    if kind in WORKBENCH:
        pytest.importorskip("torch")
    run(kind, MANY)
