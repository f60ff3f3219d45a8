"""Every error that a user can meet.

::

    EdgeError                     1   something failed
    ├── NotRunHere                    this machine cannot run such a file: "not run"
    ├── LoweringFailed                an exporter library refused the network
    ├── DownloadFailed                a published file could not be had, or is another one
    ├── NotDelegated                  a file that had to run whole on its delegate does not
    ├── Mismatch                      a written file does not compute the network that it was made of
    └── BadInput                  2   wrong usage, or input that cannot be used
        ├── BadImage                  not a whole picture
        ├── BadManifest               a manifest that does not say what it must
        ├── ChangedFile               bytes differ from the recorded sha256
        ├── Untrusted                 no valid signature where one is asked for
        ├── NotThere                  a camera or host that one can wait for
        ├── MissingExtra              a package is not installed
        ├── BadCheckpoint             not a checkpoint, or not of this network
        ├── BadRecipe                 a recipe that means nothing
        └── BadCalibration            too few, overlapping or foreign calibration data

The names of the ground floor are defined in ``edge_apps.errors`` and of calibration in ``calibration.errors``;
this module has them all. Exit statuses 3 and 4 belong to the gate's verdict, which is a value, not an error.
"""

from calibration.errors import BadCalibration, BadRecipe
from edge_apps.errors import (
    BadImage,
    BadInput,
    BadManifest,
    ChangedFile,
    EdgeError,
    MissingExtra,
    NotRunHere,
    NotThere,
    Untrusted,
)

__all__ = [
    "BadCalibration",
    "BadCheckpoint",
    "BadImage",
    "BadInput",
    "BadManifest",
    "BadRecipe",
    "ChangedFile",
    "DownloadFailed",
    "EdgeError",
    "LoweringFailed",
    "Mismatch",
    "MissingExtra",
    "NotDelegated",
    "NotRunHere",
    "NotThere",
    "Untrusted",
]


class BadCheckpoint(BadInput):
    """A file that is no checkpoint, or is one of another network."""


class DownloadFailed(EdgeError):
    """A published file could not be had, or is not what was published."""


class LoweringFailed(EdgeError):
    """An exporter library refused the network; the message names the target and the library's own words."""


class Mismatch(EdgeError):
    """A written file does not compute the network that it was made of; names the file and where it departs."""


class NotDelegated(EdgeError):
    """Operators of the network were left outside the delegate, and the user asked that none be; names them."""
