"""What ``torch.save`` wrote: pickles, of which nothing is executed.

Tensors and plain containers are read. What training scripts keep beside them (an ``argparse.Namespace``, NumPy
numbers, paths) becomes an object without content: none of those classes is ever made or called. Anything else is
refused.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.checkpoints import pickle_scan, zip_archives
from pipeline.errors import BadCheckpoint


class Inert:
    """Stands for an object that is of no interest; takes whatever a pickle hands to it, and keeps none of it."""

    def __new__(cls, *_: object) -> Inert:
        """Take the arguments that the object was made with."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        """Take them again: of a function, a pickle holds the call."""

    def __setstate__(self, state: object) -> None:
        """Take the object's attributes."""


def _inert(path: str) -> type[Inert]:
    """One class for each name, so that an error message can say what was found."""
    return type(path.rpartition(".")[2], (Inert,), {})


def _dictionary(*_: object) -> dict[Any, Any]:
    """Return an empty dictionary in place of one that is made by a call; the pickle fills it."""
    return {}


def _list(*_: object) -> list[Any]:
    """Return an empty list in place of a queue; the pickle fills it."""
    return []


_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")

INERT = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(
        f"pathlib.{kind}"
        for kind in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
    ),
    *(f"pathlib._local.{kind}" for kind in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    *(f"datetime.{kind}" for kind in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"{module}.{name}" for module in _NUMPY for name in ("scalar", "_reconstruct")),
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *(f"numpy.float{bits}" for bits in (16, 32, 64)),
    "numpy.bool",
    "numpy.bool_",
    *(f"numpy.dtypes.{kind}{bits}DType" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)),
    *(f"numpy.dtypes.Float{bits}DType" for bits in (16, 32, 64)),
    "numpy.dtypes.BoolDType",
    "numpy.dtypes.StrDType",
    "builtins.dict",
    "builtins.list",
    "builtins.int",
    "builtins.float",
    "builtins.str",
    "torch.torch_version.TorchVersion",
    "typing.Any",
    *(f"omegaconf.{kind}" for kind in ("dictconfig.DictConfig", "listconfig.ListConfig")),
    *(f"omegaconf.base.{kind}" for kind in ("Metadata", "ContainerMetadata")),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean", "Bytes", "Path")),
)
"""Settings, numbers, dates and paths, as training scripts keep them, and the types that a dictionary makes them of."""

DICTIONARIES = (
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
)
"""Dictionaries of other classes, which a pickle makes without a call."""

_ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *((_inert(path), path) for path in INERT),
    *((dict, path) for path in DICTIONARIES),
    (_dictionary, "collections.defaultdict"),
    (_list, "collections.deque"),
]
"""torch's unpickler takes these for the names beside them, and makes nothing that has no name here or in itself."""


LEGACY_PICKLES = 5
"""A file from before torch 1.6: a number, a version, the system, the objects, and the keys of the storages."""

_MAGIC = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)[2:-1]
"""Torch's own number, with which its files from before 1.6 begin. They are several pickles one after the other."""


def unpickled(data: bytes, path: Path) -> Any:
    """Return what ``torch.save`` wrote: tensors in plain containers, and ``Inert`` objects beside them.

    Raises:
        BadCheckpoint: a truncated file, or another; objects that would have to be executed, by the name of the first.
    """
    try:
        _check(data)
        with torch.serialization.safe_globals(_ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other protocols and old formats: whatever cannot be read is an error
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle_scan.Refused, zip_archives.Unread) as error:
        raise BadCheckpoint(
            f"'{path}' is not read: {error}. Save it again with torch.save(network.state_dict(), …), or better as "
            "safetensors."
        ) from None
    except Exception as error:  # a hostile file can make the unpickler fail in any way
        raise BadCheckpoint(
            f"'{path}' is not a state dict of plain tensors and was not executed ({_why_not(error, data)}). Save it "
            f"with torch.save(network.state_dict(), …), or better as safetensors.{_found(error)}"
        ) from error


def _check(data: bytes) -> None:
    """Look at the pickles in a file before torch reads them.

    Raises:
        Refused, Unread: it may be whole, and would take too much. ValueError: an archive that is not whole.
    """
    if data.startswith(b"PK"):
        pickle_scan.scan(io.BytesIO(zip_archives.member(data, "data.pkl")))
        return
    stream = io.BytesIO(data)
    for _ in range(LEGACY_PICKLES):
        try:
            pickle_scan.scan(stream)
        except pickle_scan.Refused:
            raise
        except ValueError:  # damaged: torch ends in the same place and says how
            return


def _why_not(error: Exception, data: bytes) -> str:
    """Why torch did not read it. Torch's own words are many, in bold, and advise to execute the file."""
    if not data.startswith((b"PK", pickle.PROTO)):
        return "it is no file of torch.save" if data else "it is empty"
    if data.startswith(pickle.PROTO) and _MAGIC not in data[:32] and not _MAGIC.startswith(data[2 : 2 + len(_MAGIC)]):
        return "it is a plain pickle, of the pickle module or joblib, and not a file of torch.save"
    if "Unsupported operand" in str(error) and data.startswith(b"PK"):
        return "it is pickled in another protocol than torch.save's own, which is 2"
    if isinstance(error, pickle.UnpicklingError):
        return "it holds pickled objects that are not tensors"
    if _is_zip(data):
        return "it is an archive of something else, such as TorchScript"
    return "it is truncated or damaged"


def _is_zip(data: bytes) -> bool:
    try:
        zip_archives.names(data)
    except ValueError:
        return False
    return True


def _found(error: Exception) -> str:
    """The name of the class or function that was refused, if torch says one."""
    named = re.search(r"GLOBAL ([\w.]{1,100})", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    return f" It holds '{named[1]}'." if named else ""
