"""The table of contents of the rewrites: every file is in it, and draws its graph before and after."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from pipeline.graphs import rewrites
from pipeline.graphs.rewrites import PASSES, operators

FILES = sorted(file.stem for file in Path(rewrites.__file__).parent.glob("*.py") if file.stem != "__init__")
REWRITES = [name for name in FILES if name != "operators"]


def module(name: str) -> Any:
    return importlib.import_module(f"{rewrites.__name__}.{name}")


@pytest.mark.parametrize("name", REWRITES)
def test_a_rewrite_draws_its_graph_before_and_after(name: str) -> None:
    text = module(name).__doc__
    assert "::\n\n" in text
    assert "→ " in text


@pytest.mark.parametrize("name", REWRITES)
def test_a_rewrite_is_in_the_table_of_contents(name: str) -> None:
    passes = {run.__module__ for run in PASSES}
    tables = [*operators.OPERATORS, *operators.RESHAPES]
    units = any(getattr(module(name), "UNITS", None) is table for table in tables)
    patterns = getattr(module(name), "PATTERNS", {}).items() & operators.PATTERNS.items()
    assert module(name).__name__ in passes or units or patterns
