"""When frames are due: by their time stamps, however odd these are."""

import math

import pytest

from edge_apps.camera.sources.frame_times import FrameTimes


def due(stamps: list[float], fps: float = 25.0) -> list[float]:
    times = FrameTimes(fps)
    return [round(times.next(stamp), 6) for stamp in stamps]


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([0, 0.04, 0.08, 0.12], [0, 0.04, 0.08, 0.12]),
        ([0, 0.033, 0.066, 2.066, 62.066], [0, 0.033, 0.066, 2.066, 62.066]),
        ([5, 5.04, 5.08], [0, 0.04, 0.08]),
        ([-0.08, 0.04, 0.08], [0, 0.04, 0.08]),
        ([0, 0.04, 0.12, 0.08, 0.16], [0, 0.04, 0.12, 0.12, 0.16]),
        ([0, 5, 10, 0, 5, 10], [0, 5, 10, 10.04, 15.04, 20.04]),
        ([7, 12, 3, 4], [0, 5, 5.04, 6.04]),
        ([0, 5, 95443.7 + 5, 95443.7 + 6], [0, 5, 5.04, 6.04]),
        ([0, 40000], [0, 40000]),
        ([0, 0, 0, 0], [0, 0.04, 0.08, 0.12]),
        ([0, 0.04, 0.08, 0], [0, 0.04, 0.08, 0.12]),
        ([0, 0.5, 0.5, 1.0], [0, 0.5, 0.54, 1.0]),
        ([math.nan, math.inf, math.nan], [0, 0.04, 0.08]),
        ([0, 0.04, math.nan, 0.12], [0, 0.04, 0.08, 0.12]),
    ],
    ids=[
        "even",
        "gaps keep their length",
        "from another number on",
        "a delay of the decoder",
        "out of order",
        "joined files",
        "joined files, the second with another zero",
        "the clock of MPEG starts again",
        "half a day",
        "no stamps",
        "no stamp at the end",
        "twice the same",
        "no numbers",
        "one that is none",
    ],
)
def test_frames_are_due(stamps: list[float], expected: list[float]) -> None:
    assert due(stamps) == expected


@pytest.mark.parametrize("fps", [0.0, -1.0, math.nan, math.inf, 1000.0, 90000.0])
def test_a_rate_that_cannot_be_is_not_needed(fps: float) -> None:
    assert due([0, 0.5, 0.6], fps) == [0, 0.5, 0.6]
    assert due([0, 0, 0], fps) == [0, 0.04, 0.08], "and where it is, 25 are usual"
