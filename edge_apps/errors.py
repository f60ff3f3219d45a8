"""Every error that a user can meet on a device; ``pipeline/errors.py`` draws the whole tree.

A message says in one line what happened, the value, what was allowed, and what to do next.
The command line prints it without a traceback and ends with ``exit_status``.
"""

import re


class EdgeError(Exception):
    """Something failed that the user should read about in one line.

    Settings are named as in Python, in backticks (`out`, `precision=fp32`): the command line shows them as options.
    ``traceback_helps`` says that the cause lies in a library or in the user's own code, where the line matters.
    """

    exit_status = 1

    def __init__(self, message: str = "", *, traceback_helps: bool = False) -> None:
        super().__init__(message)
        self.traceback_helps = traceback_helps


class BadInput(EdgeError):
    """Wrong usage, or input that cannot be used as it is."""

    exit_status = 2


class BadImage(BadInput):
    """A file that is not a whole, decodable picture."""


class BadManifest(BadInput):
    """A manifest, embedded or of a bundle, that does not say what it must."""


class ChangedFile(BadInput):
    """A file whose bytes are not those that its bundle recorded: it is not run."""


class Untrusted(BadInput):
    """A bundle without a valid signature where one is asked for: nothing of it is used."""


class NotThere(BadInput):
    """A camera or host that is not there now, and that one can wait for."""


class MissingExtra(BadInput):
    """A package that this command needs is not installed; the message names the pip command."""


LONGEST_LINE = 300
"""Characters of a library's error that are shown: some put a whole graph into one line."""


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line of bearable length, without what colours a terminal."""
    line = (str(error).strip().splitlines() or ["no reason given"])[0]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    return plain if len(plain) <= LONGEST_LINE else f"{plain[:LONGEST_LINE]}…"


def install(extra: str) -> str:
    """The pip command for an extra; the package is installed from a checkout, it is on no index."""
    return f"pip install '.[{extra}]' in a checkout of edge-pipeline"


class NotRunHere(EdgeError):
    """This machine cannot run such a file (a Core ML package off macOS): reported as "not run", never as passed."""
