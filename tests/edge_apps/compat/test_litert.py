"""LiteRT still has what ``edge_apps/compat/litert.py`` uses."""

import importlib.metadata
import inspect

import pytest

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="NOT RUN: no ai-edge-litert here")

VERSION = f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
SEE = "change edge_apps/compat/litert.py, or lower its upper bound in pyproject.toml"


@pytest.mark.parametrize("name", ["model_content", "num_threads", "experimental_op_resolver_type"])
def test_the_interpreter_takes_what_is_passed(name: str) -> None:
    parameters = inspect.signature(interpreter.Interpreter).parameters
    assert name in parameters, f"{VERSION}: Interpreter takes no {name}; {SEE}"


def test_there_are_kernels_without_xnnpack() -> None:
    name = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    assert hasattr(interpreter.OpResolverType, name), f"{VERSION}: OpResolverType.{name} is gone; {SEE}"
