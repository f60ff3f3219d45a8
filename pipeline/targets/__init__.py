"""The kinds of device file: one exporter per file, found by listing this folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache

from edge_apps.runtime.precisions import PRECISIONS, Precision
from edge_apps.suggestions import did_you_mean
from pipeline.errors import BadInput
from pipeline.targets.base import Target

DEFAULT_PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


@cache
def targets() -> dict[str, Target]:
    """Every target by name."""
    modules = (importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__) if not m.ispkg)
    found = [module.TARGET for module in modules if hasattr(module, "TARGET")]
    return {target.name: target for target in sorted(found, key=lambda target: target.name)}


def names() -> tuple[str, ...]:
    """The names of all targets."""
    return tuple(targets())


def canonical(text: str) -> str:
    """The target that a name or an alias (``pte``, ``mlpackage``, ``litert``) means, or ``BadInput``."""
    aliases = {alias: target.name for target in targets().values() for alias in (target.name, *target.aliases)}
    wanted = text.strip().lower()
    if wanted in aliases:
        return aliases[wanted]
    raise BadInput(f"Unknown target '{text}'.{did_you_mean(wanted, aliases)} Known: {', '.join(names())}.")


def choose_targets(texts: Sequence[str]) -> tuple[Target, ...]:
    """The targets that repeated or comma-separated names mean; ``all`` is every one."""
    wanted = _parts(texts)
    if not wanted:
        raise BadInput(f"No target given. Known: {', '.join(names())}, or all.")
    chosen = [name for part in wanted for name in (names() if part.lower() == "all" else [canonical(part)])]
    return tuple(targets()[name] for name in dict.fromkeys(chosen))


def plan(chosen: Sequence[Target], precision_texts: Sequence[str]) -> tuple[list[tuple[Target, Precision]], list[str]]:
    """Which files to make, and notes on what the default list skipped.

    Raises:
        BadInput: an unknown precision, or one asked for by name that a chosen target cannot do.
    """
    asked = [text.lower() for text in _parts(precision_texts)]
    if precision_texts and not asked:
        raise BadInput(f"No precision given. Known: {', '.join(PRECISIONS)}.")
    for text in asked:
        if text not in PRECISIONS:
            raise BadInput(
                f"Unknown precision '{text}'.{did_you_mean(text, PRECISIONS)} Known: {', '.join(PRECISIONS)}."
            )
    files: list[tuple[Target, Precision]] = []
    notes: list[str] = []
    for precision in PRECISIONS:
        if precision not in (asked or DEFAULT_PRECISIONS):
            continue
        for target in chosen:
            if precision in target.precisions:
                files.append((target, precision))
            elif asked:
                raise BadInput(
                    f"Target '{target.name}' cannot do precision '{precision}'. It can: {', '.join(target.precisions)}."
                )
            else:
                notes.append(f"{target.name} skips {precision}, which it cannot do.")
    return files, notes


def _parts(texts: Sequence[str]) -> list[str]:
    """What repeated and comma-separated values hold."""
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]
