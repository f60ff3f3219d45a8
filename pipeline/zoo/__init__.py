"""The lineage of compact CNNs: one family per file, found by listing this folder.

A family file has ``SPECS``, a tuple of ``ModelSpec``. It imports torch only inside its builder.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from edge_apps.suggestions import did_you_mean
from pipeline.errors import BadInput
from pipeline.zoo.spec import ModelSpec


@cache
def specs() -> dict[str, ModelSpec]:
    """Every known model by name."""
    found: dict[str, ModelSpec] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:
            continue  # shared units, which import torch
        for spec in getattr(importlib.import_module(f"{__name__}.{module.name}"), "SPECS", ()):
            if spec.name in found:
                raise RuntimeError(f"Two families define '{spec.name}'.")
            found[spec.name] = spec
    return found


def knows(name: str) -> bool:
    """Whether a model has this name or alias."""
    return name in specs() or name in _aliases()


def get(name: str) -> ModelSpec:
    """The spec of one model, by name or alias; ``BadInput`` with the nearest name where there is none."""
    known, aliases = specs(), _aliases()
    if knows(name):
        return known.get(name) or aliases[name]
    hint = did_you_mean(name, [*known, *aliases])
    raise BadInput(f"Unknown model '{name}'.{hint} Known: {', '.join(sorted(known))}.")


def _aliases() -> dict[str, ModelSpec]:
    return {alias: spec for spec in specs().values() for alias in spec.aliases}
