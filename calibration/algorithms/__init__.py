"""Post-training quantization algorithms that edit a network before it is lowered: one per file, found by listing.

A file that is an algorithm defines ``ALGORITHM``; the others are what algorithms share. A new algorithm also needs its
name in ``calibration.recipe.Repair``, which recipes are checked against without loading torch.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calibration.algorithms.algorithm import Algorithm


@cache
def algorithms() -> tuple[Algorithm, ...]:
    """Return all algorithms in the order in which they run: by phase, within a phase by name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found: list[Algorithm] = [module.ALGORITHM for module in modules if hasattr(module, "ALGORITHM")]
    return tuple(sorted(found, key=lambda algorithm: (algorithm.phase, algorithm.name)))
