"""Sizes and spans of time, as people write them."""

import pytest

from edge_apps.camera.log.quantities import parse_bytes, parse_span
from edge_apps.errors import BadInput


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("200M", 200_000_000), ("1.5G", 1_500_000_000), ("800k", 800_000), ("800K", 800_000), ("5000000", 5_000_000),
     ("2 GB", 2_000_000_000), ("1T", 10**12)],
)  # fmt: skip
def test_sizes(text: str, bytes_: int) -> None:
    assert parse_bytes(text) == bytes_


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 2_592_000), ("12h", 43_200), ("90m", 5_400), ("2w", 1_209_600), ("1.5h", 5_400), ("45s", 45),
     ("90s", 90), ("1h30m", 5400), ("1m1s", 61), ("1d 12h", 129_600), ("10 m", 600), ("0s", 0)],
)  # fmt: skip
def test_spans(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "M", "-5M", "5X", "5 M B", "0x5", "1e6", "five", "٣M"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BadInput, match="is no size: write"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["1001T", pytest.param("9" * 400, id="endless")])
def test_what_is_larger_than_any_disk(text: str) -> None:
    with pytest.raises(BadInput, match=r"The size '\w{1,20}' is too large: choose 1000T at most\."):
        parse_bytes(text)
    assert parse_bytes("1000T") == 10**15


@pytest.mark.parametrize("text", ["5201w", pytest.param("9" * 400 + "s", id="endless")])
def test_what_is_longer_than_anybody_waits(text: str) -> None:
    with pytest.raises(BadInput, match=r"The span of time '\w{1,20}' is too long: choose 5200w at most\."):
        parse_span(text)
    assert parse_span("5200w") == 5200 * 7 * 86_400


@pytest.mark.parametrize("text", ["", "d", "30", "-1d", "30 years", "1y", "10min", "1s1h", "١m", "1..5h"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(BadInput, match="is no span of time: write"):
        parse_span(text)
