"""Where in the user's network an error arose: the module's path, its class, and the line of the user's file."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from torch import nn

LIBRARY = Path(torch.__file__).parent
PROGRAM = Path(__file__).parents[1]


def where_failed(error: BaseException, network: nn.Module) -> str:
    """Return where an error arose while a network ran, as `` in 'body.3' (Conv2d), net.py line 12``.

    Empty where its traceback leads through no module below the network and through no file outside torch.
    """
    paths = {id(module): path for path, module in network.named_modules()}
    module, line = "", ""
    for frame, number in _frames(error):
        here = _owner(frame)
        if isinstance(here, nn.Module) and paths.get(id(here)):
            module = f"'{paths[id(here)]}' ({type(here).__name__})"
        source = Path(frame.f_code.co_filename)
        if _is_the_users(source, here):
            line = f"{source.name} line {number}"
    found = ", ".join(filter(None, (module, line)))
    return f" in {found}" if found else ""


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """The frames from the outermost to the innermost, of the error that was raised first."""
    first: BaseException = error
    seen = {id(first)}
    while (cause := first.__cause__ or first.__context__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        first = cause
    for tried in (error, first):
        frames = list(traceback.walk_tb(tried.__traceback__))
        if any(isinstance(_owner(frame), nn.Module) for frame, _ in frames):
            yield from frames
            return


def _owner(frame: FrameType) -> object:
    """What a function was given first: the object of a method, whatever it calls it."""
    names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
    return frame.f_locals.get(names[0]) if names else None


def _is_the_users(source: Path, here: object) -> bool:
    """Whether a frame is of a network's own file: a module's code outside torch and outside this program."""
    if not isinstance(here, nn.Module) or not source.is_absolute():
        return False
    return not {LIBRARY, PROGRAM} & set(source.parents) and not type(here).__module__.startswith("pipeline.")
