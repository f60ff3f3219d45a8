"""What a printed figure leaves open."""

import pytest

from pipeline.zoo.complexity.printed import parse


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("3.4 M", (3_350_000, 3_450_000), (3_349_999, 3_450_001, 3_504_872)),
        ("300 M", (299_500_000, 300_500_000), (300_774_272,)),
        ("0.39 B", (385_000_000, 385_814_368, 395_000_000), (384_999_999, 395_000_001)),
        ("1,550 M", (1_550_400_000,), (1_582_671_680,)),
        ("1550 M", (1_550_400_000,), (1_551_000_000,)),
        ("around 60 M", (60_400_000,), (60_965_224,)),
        ("137–140 M", (136_500_000, 140_500_000), (136_499_999, 140_500_001)),
        ("137-140 M", (137_460_672,), (141_000_000,)),
        ("1,248,424", (1_248_424, 1_248_424.5), (1_248_425,)),
        ("1.0 B", (993_576_000, 1_050_000_000), (949_999_999,)),
        ("74.59 %", (74.5906,), (74.58, 74.6)),
        ("50×", (49.5, 50.5), (48.8,)),
        ("27 C²", (27.0,), (27.6,)),
        ("0.66 MB", (655_000, 665_000), (595_518,)),
        ("600K", (600_499,), (602_112,)),
    ],
)
def test_half_a_unit_of_the_last_printed_digit(
    text: str, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    printed = parse(text)
    assert all(printed.covers(value) for value in inside)
    assert not any(printed.covers(value) for value in outside)


@pytest.mark.parametrize("text", ["", "M", "many", "3.4 T", "3.4 M!", "-3 M", "3..4 M", "1 to 2 M", "3.4  M", "<3 M"])
def test_what_is_no_figure_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a printed figure such as"):
        parse(text)
