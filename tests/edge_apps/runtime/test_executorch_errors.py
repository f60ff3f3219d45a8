"""Why a `.pte` was not loaded, in words."""

from __future__ import annotations

import pytest

from edge_apps.runtime.executorch_errors import why_not_loaded

PROGRAM = b"\0\0aten::avg_pool3d\0out\0aten::permute_copy\0\x01dim_order_ops::_to_dim_order_copy\0"


@pytest.mark.parametrize("said", ["Failed to load method forward, error: 0x:14", "Error::OperatorMissing"])
def test_a_missing_operator_is_told_from_damage(said: str) -> None:
    why = why_not_loaded(said, PROGRAM)
    assert "an operator that this runtime does not have (OperatorMissing)" in why
    assert "aten::avg_pool3d, aten::permute_copy, dim_order_ops::_to_dim_order_copy." in why
    assert "Export it again" not in why


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Failed to load method forward, error: 0x:1", "the XNNPACK delegate does not take a part of it"),
        ("loading method forward failed with error 0x30", "(DelegateInvalidCompatibility)"),
        (
            "Error::InvalidProgram",
            "it is damaged, or of another version of ExecuTorch (InvalidProgram). Export it again.",
        ),
        ("Error::NotFound", "(NotFound). Export it again."),
        ("Error::MemoryAllocationFailed", "not enough memory"),
        ("its input is not one picture of bytes", "its input is not one picture of bytes. Export it again."),
    ],
)
def test_the_error_is_said_in_words(said: str, words: str) -> None:
    why = why_not_loaded(said, PROGRAM)
    assert words in why
    assert "0x" not in why
    assert "\n" not in why
    assert why.endswith((".", ")."))


def test_many_operators_are_cut_short() -> None:
    program = b"\0".join(b"aten::op_%d" % number for number in range(20))
    assert "and 14 more" in why_not_loaded("Error::OperatorMissing", program)
    assert "calls nothing." in why_not_loaded("Error::OperatorMissing", b"")
