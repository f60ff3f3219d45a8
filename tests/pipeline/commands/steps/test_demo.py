"""The demo's own rules; the job that it does is tested piece by piece elsewhere, and as a whole here under ``long``."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge_apps.errors import BadInput
from edge_apps.images import open_images
from edge_apps.runtime.manifest import Bundle
from pipeline.commands.steps.demo import POLICY, Place, check_frames, export_job, run_camera, write_frames
from pipeline.data import open_data
from pipeline.data.subset import Subset
from pipeline.evaluation.bundle import evaluate_bundle


def test_frames_of_others_are_never_replaced(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.frames.mkdir()
    precious = place.frames / "precious.txt"
    precious.write_text("mine")
    for attempt in (check_frames, write_frames):
        with pytest.raises(BadInput, match="is not a demo's: it is not replaced"):
            attempt(place)
    assert precious.read_text() == "mine"


def test_frames_are_the_held_out_pictures_and_may_be_written_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert write_frames(place) == 450
    (place.frames / "left-over.png").touch()
    assert write_frames(place) == 450
    written, held_out = open_images(place.frames), open_data("digits", "test")
    assert written.classes == held_out.classes
    assert sorted(written.labels) == sorted(held_out.labels)
    assert not (place.frames / "left-over.png").exists()


def test_the_job_covers_every_target_in_fp32_and_int8(tmp_path: Path) -> None:
    job = export_job(Place(tmp_path))
    assert {(target.name, precision) for target, precision in job.files} == {
        (name, precision) for name in ("coreml", "executorch", "tflite") for precision in ("fp32", "int8")
    }
    assert POLICY.max_drop == 3.0
    assert POLICY.allow_not_run == ("coreml",)


def test_the_camera_program_runs_every_file_that_was_evaluated(demo_bundle: Bundle, tmp_path: Path) -> None:
    place = Place(tmp_path)
    write_frames(place)
    few = Subset(open_data("digits", "test"), range(40))
    evaluation = evaluate_bundle(demo_bundle.root, few)
    runs = run_camera(place, demo_bundle, evaluation)
    assert set(runs) == {
        f"mobilenet_v2-{precision}.{kind}" for precision in ("fp32", "int8") for kind in ("pte", "tflite")
    }
    for camera in runs.values():
        assert camera.frames == 450
        assert camera.right >= 441  # 98 %
        assert camera.stages["infer"].n == 450
    assert place.log.is_file()


@pytest.mark.long
def test_the_whole_demo_from_the_command_line(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("pipeline")), "demo", "--out", str(tmp_path / "demo")]
    for _ in range(2):  # the second replaces the first
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Gate passed at 3.0 points of top-1: 4 passed, 2 not run (allowed)." in done.stdout
        assert "Done in " in done.stdout
