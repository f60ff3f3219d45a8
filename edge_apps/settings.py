"""Settings in messages: written in backticks as in Python, shown as options on the command line.

A message below the commands does not know who called: a command line, or a Python program. It writes "Choose another
`out`, or `precision=fp32`."; the commands show "Choose another --out, or --precision fp32."
"""

from __future__ import annotations

import re

_SETTING = re.compile(r"(?<!`)`([a-z][a-z0-9_]*)(?:=([^`]+))?`(?!`)")


def as_options(text: str) -> str:
    """Replace every setting by the option of the same name.

    `out` becomes ``--out`` and `precision=int8` ``--precision int8``; a switch is ``--force`` for `force=True` and
    ``--no-ema`` for `ema=False`.
    """
    return _SETTING.sub(_option, text)


def _option(match: re.Match[str]) -> str:
    name, value = match[1].replace("_", "-"), match[2]
    if value == "False":
        return f"--no-{name}"
    return f"--{name}" if value in (None, "True") else f"--{name} {value}"
