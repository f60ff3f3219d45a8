"""Suggest the name that a user probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like this one; None where none is like it.

    Of two that are as near, the one that the name begins with: 'vgg16bn' is 'vgg16' with an option.
    """
    near = difflib.get_close_matches(name, list(known))

    def nearness(other: str) -> tuple[float, bool]:
        return difflib.SequenceMatcher(None, other, name).ratio(), name.startswith(other)

    return max(near, key=nearness) if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'coreml'?`` to follow "Unknown target 'coreml2'."; nothing where no name is like it."""
    near = nearest(name, known)
    return "" if near is None else f" Did you mean '{near}'?"
