"""What the papers claim across models, against sums done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.zoo.complexity.check import Row
from pipeline.zoo.complexity.claims import claims, comparison, peak_faults, peaks


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], Row]:
    return {(row.subject, row.quantity): row for row in claims()}


def test_every_claim_holds_or_is_explained(rows: dict[tuple[str, str], Row]) -> None:
    assert [row.fault for row in rows.values()] == [""] * len(rows)
    assert all(row.source for row in rows.values())


def test_the_two_networks_that_the_project_starts_from(rows: dict[tuple[str, str], Row]) -> None:
    for name, parameters, size in (
        ("mobilenet_v2", 2_236_682, "8.947 MB"),
        ("efficientnet_b0", 4_020_358, "16.081 MB"),
    ):
        row = rows[f"{name}, classes 10", "size in float32"]
        assert (row.value, row.counted, row.published) == (4 * parameters, size, size)


def test_shares_of_mobilenet_v1(rows: dict[tuple[str, str], Row]) -> None:
    """4,209,088 weights: 3,139,584 in 1×1 layers, 44,640 depthwise, 864 in the first, 1,024,000 in the last."""
    weights = 3_139_584 + 44_640 + 864 + 1_024_000
    name = "mobilenet_v1"
    assert rows[name, "weights in 1×1 convolutions"].value == pytest.approx(100 * 3_139_584 / weights)
    assert rows[name, "weights in 1×1 convolutions"].counted == "74.59 %"
    assert rows[name, "weights in the classifier"].counted == "24.33 %"
    assert rows[name, "mult-adds in 1×1 convolutions"].counted == "94.86 %"
    assert rows[f"{name}, width 0.25", "params without the classifier"].value == 470_072 - 257_000


def test_three_small_kernels_and_a_large_one(rows: dict[tuple[str, str], Row]) -> None:
    small, large = "three 3×3 layers", "one 7×7 layer"
    assert (rows[small, "weights, on C channels"].value, rows[large, "weights, on C channels"].value) == (27, 49)
    sides = [rows[layers, "receptive field, pixels a side"].value for layers in (small, large)]
    assert sides == [7, 7]
    assert rows[large, "more weights"].value == pytest.approx(100 * 22 / 27)


def test_the_reduction(rows: dict[tuple[str, str], Row]) -> None:
    assert rows["1×1 256→64, then 5×5 64→64", "weights"].value == 256 * 64 + 64 * 64 * 25 == 118_784
    assert rows["5×5 256→64", "weights"].value == 256 * 64 * 25 == 409_600


def test_squeezenet_against_alexnet(rows: dict[tuple[str, str], Row]) -> None:
    assert rows["squeezenet_1_0", "fewer parameters than alexnet"].value == pytest.approx(60_965_224 / 1_248_424)


def test_sizes_after_deep_compression(rows: dict[tuple[str, str], Row]) -> None:
    what = "size with 33 % of the weights at"
    eight = rows["squeezenet_1_0", f"{what} 8 bits, 4 bits a position"]
    six = rows["squeezenet_1_0", f"{what} 6 bits, the shortest positions"]
    assert [(row.counted, row.published, row.explanation) for row in (eight, six)] == [
        ("0.66 MB", "0.66 MB", ""),
        ("0.47 MB", "0.47 MB", ""),
    ]


def test_peak_activations() -> None:
    """One tensor is known to the byte: 128 channels at 56², 16 bit."""
    found = peaks()
    assert [peak.model for peak in found] == ["mobilenet_v2", "shufflenet_v1", "mobilenet_v1"]
    assert found[2].first == 128 * 56 * 56 * 2 == 802_816
    assert found[0].first == 24 * 56 * 56 * 2
    assert [peak.later for peak in found] == [16 * 112 * 112 * 2, 480 * 28 * 28 * 2, 64 * 112 * 112 * 2]
    assert [peak.published_first for peak in found] == ["200K", "600K", "800K"]
    assert [peak.published_later for peak in found] == ["400K", "600K", "1600K"]
    assert peak_faults(found) == []


def test_another_order_or_another_byte_is_caught() -> None:
    found = peaks()
    faults = peak_faults((replace(found[0], later=1_000_000), *found[1:]))
    assert len(faults) == 1
    assert "of the paper's later version are not in its order" in faults[0]
    assert (
        "counts a peak of 802,818 bytes, recorded 802,816"
        in peak_faults((*found[:2], replace(found[2], first=802_818)))[0]
    )


def test_the_comparison_is_as_published() -> None:
    lines = [(line.label, line.top1, line.published_mult_adds, line.published_params) for line in comparison()]
    assert lines == [
        ("1.0 MobileNet-224", "70.6 %", "569 M", "4.2 M"),
        ("GoogLeNet", "69.8 %", "1550 M", "6.8 M"),
        ("VGG-16", "71.5 %", "15300 M", "138 M"),
    ]
    assert [line.params for line in comparison()] == ["4,231,976", "6,998,552", "138,357,544"]
