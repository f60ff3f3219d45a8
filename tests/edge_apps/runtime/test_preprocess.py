"""Resize and crop, against plain arithmetic; what a ``Preprocess`` may say."""

import math
import tracemalloc

import cv2
import msgspec
import numpy as np
import pytest

from edge_apps.runtime.preprocess import Preprocess, TrainedWith, to_batch, to_input


def ramp(height: int, width: int) -> np.ndarray:
    """A picture whose every pixel is unlike its neighbours."""
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation with half-pixel centres and clamped edges, in float64."""

    def weights(n_in: int, n_out: int) -> np.ndarray:
        matrix = np.zeros((n_out, n_in))
        for out in range(n_out):
            at = (out + 0.5) * n_in / n_out - 0.5
            low = math.floor(at)
            for index, weight in ((low, 1 - (at - low)), (low + 1, at - low)):
                matrix[out, min(max(index, 0), n_in - 1)] += weight
        return matrix

    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.einsum("yh,xw,hwc->yxc", rows, columns, image.astype(np.float64))


@pytest.mark.parametrize("size", [(20, 30), (30, 20), (7, 7), (1, 1), (1, 50), (480, 640)])
def test_stretch_is_bilinear(size: tuple[int, int]) -> None:
    image = ramp(*size)
    found = to_input(image, Preprocess(height=12, width=16))
    assert found.dtype == np.uint8
    assert found.shape == (12, 16, 3)
    # The fixed-point kernel may round to the neighbour of the exact value.
    assert np.abs(found - bilinear(image, 12, 16)).max() <= 1.0


@pytest.mark.parametrize(("size", "resized"), [((20, 40), (10, 20)), ((40, 20), (20, 10)), ((20, 20), (10, 10))])
def test_crop_keeps_the_shape_and_cuts_the_centre(size: tuple[int, int], resized: tuple[int, int]) -> None:
    image = ramp(*size)
    found = to_input(image, Preprocess(height=6, width=8, resize="crop", resize_to=10))
    whole = bilinear(image, *resized)
    top, left = (resized[0] - 6) // 2, (resized[1] - 8) // 2
    assert found.shape == (6, 8, 3)
    assert np.abs(found - whole[top : top + 6, left : left + 8]).max() <= 1.0


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (333, 500), (10, 11), (9, 1000)])
def test_a_crop_is_always_big_enough(size: tuple[int, int]) -> None:
    found = to_input(ramp(*size), Preprocess(height=10, width=10, resize="crop", resize_to=10))
    assert found.shape == (10, 10, 3)


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    image = ramp(12, 16)
    assert (to_input(image, Preprocess(height=12, width=16)) == image).all()
    crop = to_input(image, Preprocess(height=12, width=12, resize="crop", resize_to=12))
    assert (crop == image[:, 2:14]).all()


def test_mirrored_and_strided_frames_give_the_same_as_copies() -> None:
    image = ramp(40, 60)
    for view in (image[:, ::-1], image[::-1], image[::2, ::3], image.transpose(1, 0, 2)):
        for preprocess in (Preprocess(height=12, width=16), Preprocess(height=6, width=6, resize="crop", resize_to=8)):
            assert (to_input(view, preprocess) == to_input(view.copy(), preprocess)).all()


def test_the_frame_is_not_changed() -> None:
    image = ramp(20, 30)
    before = image.copy()
    to_input(image, Preprocess(height=6, width=6, resize="crop", resize_to=8))
    assert (image == before).all()


def test_a_batch_takes_frames_of_any_size() -> None:
    preprocess = Preprocess(height=12, width=16)
    frames = [ramp(12, 16), ramp(480, 640), ramp(5, 5)]
    batch = to_batch(frames, preprocess)
    assert batch.shape == (3, 12, 16, 3)
    assert batch.dtype == np.uint8
    assert batch.flags.c_contiguous
    assert all((row == to_input(frame, preprocess)).all() for row, frame in zip(batch, frames, strict=True))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"height": 0, "width": 4}, "both sides must be at least 1"),
        ({"height": 4, "width": -1}, "both sides must be at least 1"),
        ({"height": 4097, "width": 4}, "both sides must be at least 1 and at most 4,096"),
        ({"height": 4, "width": 10**30}, "both sides must be at least 1 and at most 4,096"),
        ({"height": 4, "width": 4, "resize": "crop", "resize_to": 10**6}, "at most 8,192 is allowed"),
        ({"height": 4, "width": 4, "std": (0.2, 0.0, 0.2)}, "above 0"),
        ({"height": 4, "width": 4, "std": (0.2, math.nan, 0.2)}, "above 0"),
        ({"height": 4, "width": 4, "std": (0.2, math.inf, 0.2)}, "finite"),
        ({"height": 4, "width": 4, "mean": (0.2, math.nan, 0.2)}, "finite"),
        ({"height": 4, "width": 4, "resize": "crop"}, "needs at least that"),
        ({"height": 4, "width": 8, "resize": "crop", "resize_to": 7}, "needs at least that"),
        ({"height": 4, "width": 4, "resize_to": 8}, "only with resize 'crop'"),
    ],
)
def test_senseless_preprocessing_is_refused(fields: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Preprocess(**fields)


def test_it_travels_as_json() -> None:
    preprocess = Preprocess(height=4, width=8, resize="crop", resize_to=9, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    assert msgspec.json.decode(msgspec.json.encode(preprocess), type=Preprocess) == preprocess
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"height": 4, "width": 4, "resise": "crop"}', type=Preprocess)
    with pytest.raises(msgspec.ValidationError, match="nearest"):
        msgspec.json.decode(b'{"height": 4, "width": 4, "interpolation": "nearest"}', type=Preprocess)


def test_what_weights_were_trained_with_travels_too_and_is_not_written_where_it_is_not_known() -> None:
    plain = Preprocess(height=4, width=8)
    assert b"trained_with" not in msgspec.json.encode(plain)
    trained = TrainedWith(library="timm", interpolation="bicubic", antialias=True, resize_to=9)
    recorded = msgspec.structs.replace(plain, trained_with=trained)
    assert msgspec.json.decode(msgspec.json.encode(recorded), type=Preprocess) == recorded
    assert (to_input(ramp(20, 30), recorded) == to_input(ramp(20, 30), plain)).all()
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"height": 4, "width": 4, "trained_with": {"by": "x"}}', type=Preprocess)


@pytest.mark.parametrize("shape", [(1, 2_000_000, 3), (2_000_000, 1, 3)])
def test_a_stripe_is_cut_before_it_is_resized(shape: tuple[int, int, int]) -> None:
    stripe = np.zeros(shape, np.uint8)
    stripe[:, shape[1] // 2 :] = 200  # of one that lies down, the right half
    tracemalloc.start()
    found = to_input(stripe, Preprocess(height=224, width=224, resize="crop", resize_to=256))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (224, 224, 3)
    assert peak < 20_000_000
    assert found.max() > 100


def test_an_image_fifty_times_as_long_as_wide_is_resized_whole() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 400, 3), dtype=np.uint8)
    middle = cv2.resize(image, (800, 16), interpolation=cv2.INTER_LINEAR_EXACT)[:, 392:408]
    assert (to_input(image, Preprocess(height=16, width=16, resize="crop", resize_to=16)) == middle).all()
