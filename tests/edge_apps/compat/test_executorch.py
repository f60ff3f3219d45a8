"""The executorch package still has what ``edge_apps/compat/executorch.py`` uses."""

import importlib.metadata

import pytest

pytest.importorskip("executorch.runtime", reason="NOT RUN: no executorch with torch here")

from edge_apps.compat.executorch import thread_pool_setter


def test_the_thread_pool_can_be_sized() -> None:
    version = importlib.metadata.version("executorch")
    try:
        set_threads = thread_pool_setter()
    except ImportError as error:
        pytest.fail(f"executorch {version}: {error}; change edge_apps/compat/executorch.py")
    set_threads(1)
