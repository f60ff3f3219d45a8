import json
from pathlib import Path

import numpy as np
import pytest

from calibration.dataset.dataset import CalibrationSet
from calibration.errors import BadCalibration
from calibration.ranges import QMAX, QMIN, Range, Ranges, load_ranges
from calibration.recipe import Recipe
from edge_apps.runtime.preprocess import Preprocess

SMALL = Preprocess(height=32, width=32)
EMPTY = CalibrationSet(source="x", how="x", seed=0, images=())


def ranges(**values: Range) -> Ranges:
    return Ranges(checkpoint_sha256="a" * 64, preprocess=SMALL, recipe=Recipe(), calibration_set=EMPTY, values=values)


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 3.0), (0.0, 6.0), (-2.5, 0.0), (0.5, 2.0), (-3.0, -1.0), (-1e-3, 1e3)]
)
def test_zero_and_both_ends_are_representable(low: float, high: float) -> None:
    scale, zero_point = Range(low, high).qparams()
    assert QMIN <= zero_point <= QMAX
    lowest, highest = (QMIN - zero_point) * scale, (QMAX - zero_point) * scale
    assert lowest <= min(low, 0) + scale / 2 + 1e-9
    assert highest >= max(high, 0) - scale / 2 - 1e-9
    assert scale == float(np.float32(scale))


def test_relu6_by_hand() -> None:
    assert Range(0.0, 6.0).qparams() == (float(np.float32(6 / 255)), -128)


def test_nothing_at_all_still_has_a_scale() -> None:
    scale, zero_point = Range(0.0, 0.0).qparams()
    assert scale > 0
    assert zero_point == QMIN


def test_file_round_trip_and_hash(tmp_path: Path) -> None:
    one = ranges(a=Range(-1.0, 2.0))
    path = tmp_path / "r.json"
    path.write_bytes(one.to_json())
    assert load_ranges(path) == one
    assert load_ranges(path).sha256() == one.sha256()


def test_a_file_from_before_observers_were_recorded(tmp_path: Path) -> None:
    text = json.loads(ranges(a=Range(-1.0, 2.0)).to_json())
    del text["observers"]
    path = tmp_path / "r.json"
    path.write_text(json.dumps(text))
    assert load_ranges(path).observers == {}


def test_other_checkpoint_is_refused() -> None:
    with pytest.raises(BadCalibration, match="belong to checkpoint aaaaaaaaaaaa…, not to bbbbbbbbbbbb…"):
        ranges().check_checkpoint("b" * 64, SMALL, "r.json")


def test_another_input_is_refused() -> None:
    ranges().check_checkpoint("a" * 64, SMALL, "r.json")
    with pytest.raises(BadCalibration, match="found at input 32×32, this export has 64×64"):
        ranges().check_checkpoint("a" * 64, Preprocess(height=64, width=64), "r.json")


def test_unknown_tensor_is_named() -> None:
    with pytest.raises(BadCalibration, match="No range for 'features.0:conv2d:0'"):
        ranges().qparams("features.0:conv2d:0")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"values": 3}', "\xff"])
def test_not_a_ranges_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, "latin-1")
    with pytest.raises(BadCalibration, match="not a ranges file"):
        load_ranges(path)


@pytest.mark.parametrize("interval", ["[0, 1e300]", "[5, -5]", "[-1e31, 0]"])
def test_ranges_that_no_network_has_are_refused(tmp_path: Path, interval: str) -> None:
    path = tmp_path / "r.json"
    text = json.loads(ranges(a=Range(-1.0, 2.0)).to_json())
    path.write_text(json.dumps({**text, "values": {"a": json.loads(interval)}}))
    with pytest.raises(BadCalibration, match="the range of 'a' is"):
        load_ranges(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b'{"x":' + b"[" * 100_000, "nested too deeply", id="nested"),
        pytest.param(b'{"values": {"a": [0, NaN]}}', "invalid", id="nan"),
        pytest.param(b'{"values": {"a": [0, 1e999]}}', "out of range", id="infinite"),
        pytest.param(b'{"values": {"\xff": [0, 1]}}', "UTF-8", id="bytes"),
        pytest.param(b" " * 16_000_001, "at most 16,000,000 are read", id="large"),
    ],
)
def test_hostile_ranges_are_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "ranges.json"
    path.write_bytes(data)
    with pytest.raises(BadCalibration, match=message) as caught:
        load_ranges(path)
    assert "\n" not in str(caught.value)
