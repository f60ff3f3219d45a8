"""What the target relies on in litert-torch without its promise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

pytest.importorskip("litert_torch")

from pipeline.compat.litert_torch import fewest_transposes, only_as_annotated

Contract = Callable[[str, str], AbstractContextManager[None]]


def test_the_search_for_transposes_is_set_and_set_back(contract: Contract) -> None:
    from litert_torch import config

    with contract("litert-torch", "config.layout_optimize_partitioner"):
        before = config.layout_optimize_partitioner
        with fewest_transposes():
            assert config.layout_optimize_partitioner == "MINCUT"
        assert config.layout_optimize_partitioner == before


def test_the_strict_mode_is_set_and_set_back(contract: Contract) -> None:
    with contract("litert-torch", "converter_api_ext.ConvertToTFLConfig or its strict_qdq_mode"):
        from litert_torch._convert import litert_converter

        api = litert_converter.converter_api_ext
        default = api.ConvertToTFLConfig
        assert default().strict_qdq_mode is False
        with only_as_annotated():
            assert api.ConvertToTFLConfig().strict_qdq_mode is True
        assert api.ConvertToTFLConfig is default


def test_the_converter_asks_for_that_configuration(contract: Contract) -> None:
    """By that name in that module, when it converts; otherwise strict mode would be lost without a word."""
    import inspect

    with contract("litert-torch", "where its converter takes ConvertToTFLConfig from"):
        from litert_torch._convert import litert_converter

        assert "converter_api_ext.ConvertToTFLConfig(" in inspect.getsource(litert_converter)
