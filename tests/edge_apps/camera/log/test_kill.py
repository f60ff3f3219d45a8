"""``kill -9`` at random moments: the database is whole, and at most one commit interval is lost."""

import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from edge_apps.camera.log import read_log
from edge_apps.camera.log.summary import summarize_log
from edge_apps.camera.log.writer import COMMIT_EVERY

SCRIPT = Path(__file__).parents[1] / "fake_camera.py"


def killed_run(model: Path, path: Path, seconds: float) -> tuple[list[dict], float]:
    """The frames that the program told before it was killed, so many seconds after the first; and when that was."""
    command = [sys.executable, SCRIPT, "run", "-m", model, "-s", "test-pattern", "--log", path, "--json"]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        assert program.stdout is not None
        lines = [msgspec.json.decode(program.stdout.readline()) for _ in range(2)]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            lines.append(msgspec.json.decode(program.stdout.readline()))
        killed = time.time()
        program.kill()
        lines += [msgspec.json.decode(line) for line in program.stdout if line.endswith(b"\n")]
    return [line for line in lines if line["type"] == "frame"], killed


def kill_often(fake, folder: Path, times: int) -> None:
    model, path = fake.write_fake(folder / "m.fake", seconds=0.01), folder / "latency.db"
    chance = random.Random(times)
    sessions, lost = 0, []
    for _ in range(times):
        told, killed = killed_run(model, path, chance.uniform(0.0, 1.7))
        database = read_log(path)
        before, (sessions, ended) = sessions, database.execute("SELECT count(*), count(ended) FROM session").fetchone()
        assert (sessions - before, ended) in ((0, 0), (1, 0)), "0: killed before anything was committed"
        found = database.execute("SELECT sequence FROM frame WHERE session = ? ORDER BY sequence", (before + 1,))
        kept = [sequence for (sequence,) in found]
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()
        assert kept == list(range(len(kept))), "no hole"
        lost.append(max((killed - line["captured_at"] for line in told if line["sequence"] >= len(kept)), default=0.0))
    assert max(lost) < COMMIT_EVERY + 1.5  # and what a busy machine takes for its commits
    (group,) = summarize_log(path)
    assert len(group.started) == group.unfinished == sessions > 0
    assert group.missing == 0
    assert [p.name for p in folder.glob("*damaged*")] == []


def test_a_program_that_is_killed_loses_one_commit_interval(fake, tmp_path: Path) -> None:
    kill_often(fake, tmp_path, 5)


@pytest.mark.long
def test_fifty_times(fake, tmp_path: Path) -> None:
    kill_often(fake, tmp_path, 50)


def test_two_programs_share_a_log(fake, tmp_path: Path) -> None:
    model, path = fake.write_fake(tmp_path / "m.fake"), tmp_path / "latency.db"
    command = [sys.executable, SCRIPT, "run", "-m", model, "-s", "test-pattern", "--log", path, "-q", "--frames", 300]
    programs = [subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [program.wait(120) for program in programs] == [0, 0]
    (group,) = summarize_log(path)
    assert (len(group.started), group.stages["total"].n, group.events) == (2, 600, {})
