"""The lineage of compact CNNs: one family per file, found by listing this folder.

A family file has ``SPECS``, a tuple of ``ModelSpec``. It imports torch only inside its builder.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache

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


def get(name: str) -> ModelSpec:
    """The spec of one model, by name or alias; ``BadInput`` with the nearest name where there is none."""
    known = specs()
    aliases = {alias: spec for spec in known.values() for alias in spec.aliases}
    if name in known or name in aliases:
        return known.get(name) or aliases[name]
    near = difflib.get_close_matches(name, [*known, *aliases], n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise BadInput(f"Unknown model '{name}'.{hint} Known: {', '.join(sorted(known))}.")
