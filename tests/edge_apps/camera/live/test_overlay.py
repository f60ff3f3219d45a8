"""What is drawn over a picture."""

import numpy as np
import pytest

from edge_apps.camera.live import overlay
from edge_apps.camera.live.overlay import captioned, resized

LABELS = [("tabby cat", 0.934), ("Käfer", 0.05)]

BOTH_WAYS = pytest.mark.usefixtures("way")


@pytest.fixture(params=["font", "strokes"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV 4 has no fonts; its way is taken here by OpenCV 5 as well."""
    if request.param == "strokes":
        monkeypatch.setattr(overlay, "_FONT", None)
    elif overlay._FONT is None:
        pytest.skip("this OpenCV has no fonts: its other way did NOT run")


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 120, np.uint8)


def changed(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a grey picture that something was drawn on."""
    drawn = (picture != 120).any(axis=2)
    return np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))


@BOTH_WAYS
def test_labels_at_the_foot_and_the_note_at_the_head_dark_around_light() -> None:
    original = grey(480, 640)
    picture = captioned(original, LABELS, "30.0 fps   3.2 ms")
    assert (original == 120).all()
    rows, _ = changed(picture)
    assert rows.min() < 60
    assert rows.max() > 430
    assert not ((rows > 120) & (rows < 360)).any()
    for part in (picture[:120], picture[360:]):
        assert part.min() < 60
        assert part.max() > 220


def test_colours_stay_what_they_are() -> None:
    picture = captioned(np.full((480, 640, 3), (200, 10, 30), np.uint8), [], "")
    assert (picture == (30, 10, 200)).all()  # BGR, for the encoder


@BOTH_WAYS
def test_text_grows_with_the_picture() -> None:
    heights = []
    for factor in (1, 2):
        rows, _ = changed(captioned(grey(360 * factor, 480 * factor), [("HHHH", 0.5)], ""))
        heights.append(rows.max() - rows.min() + 1)
    assert heights[1] / heights[0] == pytest.approx(2, rel=0.25)
    assert heights[0] >= 12


@BOTH_WAYS
def test_a_label_that_is_too_long_is_cut_and_its_probability_stays() -> None:
    long = captioned(grey(480, 640), [("w" * 300, 0.5)], "")
    _, columns = changed(long)
    assert columns.max() < 640 - 8
    other = captioned(grey(480, 640), [("w" * 300, 0.6)], "")
    assert (long != other).any()


@BOTH_WAYS
@pytest.mark.parametrize("label", ["", "狗", "Ünïcødé", "a\nb\0c", "🐈"])
def test_any_label_can_be_drawn(label: str) -> None:
    assert captioned(grey(240, 320), [(label, 1.0)], "").shape == (240, 320, 3)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((480, 640), (480, 640)),
        ((32, 32), (256, 256)),
        ((2160, 3840), (720, 1280)),
        ((100, 100), (300, 300)),
        ((1, 1), (240, 240)),
        ((1, 5000), (1, 1280)),
        ((20, 1000), (20, 1000)),
        ((240, 320), (240, 320)),
    ],
)
def test_a_size_that_people_can_look_at(before: tuple[int, int], after: tuple[int, int]) -> None:
    image = grey(*before)
    assert resized(image).shape == (*after, 3)
    assert captioned(image, LABELS, "1 fps").shape == (*after, 3)


def test_a_picture_that_has_a_good_size_is_not_copied() -> None:
    image = grey(480, 640)
    assert resized(image) is image
