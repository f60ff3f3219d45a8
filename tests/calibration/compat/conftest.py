"""How a contract test of a library fails: one line that names the library, its version and what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version

import pytest

Contract = Callable[[str, str], AbstractContextManager[None]]


@pytest.fixture
def contract() -> Contract:
    """``with contract("torch", "schemas of operators"): …`` fails in one line where the block fails."""

    @contextmanager
    def holds(package: str, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            line = (str(error).splitlines() or [""])[0]
            reason = f"{package} {version(package)} changed {what}: {type(error).__name__} {line}"
            pytest.fail(reason, pytrace=False)

    return holds
