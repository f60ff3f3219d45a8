"""A user's own network by reference: ``file.py:factory`` or ``package.module:factory``.

Naming one runs that file. It is only ever done for a reference that the user typed, never for one that a file holds.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edge_apps.errors import first_line
from edge_apps.runtime.preprocess import Preprocess
from pipeline import zoo
from pipeline.errors import BadInput
from pipeline.zoo.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

PROGRAM = ".pt2"

CLASS_PARAMETERS = ("classes", "num_classes")
"""How factories call the number of classes; one that takes neither always builds the same head."""


LONGEST_NAME, LONGEST_STEM = 100, 50
_NAME = re.compile(rf"(?!\.)[\w.:-]{{1,{LONGEST_NAME}}}")


def is_name(model: str) -> bool:
    """Whether a file may call its model so: what is written into terminals and file names holds nothing else."""
    return _NAME.fullmatch(model) is not None


def as_name(text: str) -> str:
    """A user's file, as a name that ``is_name`` allows: other characters become ``_``, the end is kept."""
    return re.sub(r"[^\w.:-]", "_", text)[-LONGEST_NAME:].lstrip(".") or "network"


def program_name(path: Path) -> str:
    """The name of an exported program's network: its file's, ending as that of a program does."""
    return as_name(path.name if path.suffix == PROGRAM else f"{path.stem}{PROGRAM}")


def is_reference(model: str) -> bool:
    """Whether a model's name means a user's own network: the zoo's names have no colon."""
    return ":" in model


def is_foreign(model: str) -> bool:
    """Whether the zoo cannot build it: a user's own network, or an exported program."""
    return is_reference(model) or model.endswith(PROGRAM)


def find(model: str) -> ModelSpec:
    """The spec of a model of the zoo, or of a user's own network, whose file is run.

    Raises:
        BadInput: an unknown model; no such file, module or factory; an error while the file runs.
    """
    if model.endswith(PROGRAM):
        raise BadInput(f"'{model}' is an exported program, which brings its network along: give it as CHECKPOINT.")
    return own(model) if is_reference(model) else zoo.get(model)


def own(reference: str) -> ModelSpec:
    """The spec of ``file.py:factory`` or ``package.module:factory``, named after the file, wherever it lies.

    Its networks take 1,000 classes and 224×224 pixels until something else is said; they have no options.
    """
    source, _, factory_name = reference.rpartition(":")
    if not source or not factory_name.isidentifier():
        raise BadInput(f"'{reference}' names no network: write file.py:factory or package.module:factory.")
    module = _from_file(Path(source)) if source.endswith(".py") else _from_package(source)
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise BadInput(f"'{source}' has no factory '{factory_name}'. It has: {', '.join(known[:8]) or 'none'}.")
    name = as_name(f"{Path(source).name}:{factory_name}" if source.endswith(".py") else reference)
    return ModelSpec(
        name=name,
        title=name,
        paper="",
        introduced="",
        builder=lambda classes: build(factory, name, classes),
        smallest=1,
    )


def file_stem(model: str) -> str:
    """A model's name as the beginning of file names: ``net-build`` of ``net.py:build``, ``mine`` of ``mine.pt2``.

    Whatever the name is, this stays in its folder: no separator, no leading dot, never empty.
    """
    stem = Path(model).name.removesuffix(PROGRAM)
    if is_reference(model):
        source, _, factory = model.rpartition(":")
        stem = f"{Path(source).name.removesuffix('.py').rpartition('.')[2]}-{factory}"
    return re.sub(r"[^\w.-]", "_", stem).lstrip(".-")[:LONGEST_STEM] or "network"


def build(factory: Callable[..., Any], name: str, classes: int) -> nn.Module:
    """What the factory returns, on the CPU with real tensors; ``BadInput`` where it fails or returns something else."""
    import torch
    from torch import nn

    try:
        parameters: Any = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        parameters = {}
    counted = {key: classes for key in CLASS_PARAMETERS if key in parameters}
    try:
        with torch.device("cpu"):  # whoever only counts parameters builds on the meta device; a factory may load files
            network = factory(**dict(list(counted.items())[:1]))
    except Exception as error:
        gpu = (
            " A device is not needed: leave .cuda() and .to('cuda') out of the factory." if _is_of_a_gpu(error) else ""
        )
        raise BadInput(
            f"'{name}' failed with {type(error).__name__}: {first_line(error)}.{gpu}", traceback_helps=True
        ) from error
    if not isinstance(network, nn.Module):
        raise BadInput(f"'{name}' returned a {type(network).__name__}, not a torch.nn.Module.")
    network = _unwrapped(network)
    _check_modules(network, name)
    _check_parameters(network, name)
    return network.cpu()


def _unwrapped(network: nn.Module) -> nn.Module:
    """A network without what runs it elsewhere: torch.compile, DataParallel."""
    import torch
    from torch import nn

    while True:
        inner = getattr(network, "_orig_mod", None)
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = network.module
        if not isinstance(inner, torch.nn.Module):
            return network
        network = inner


def _check_modules(network: nn.Module, name: str) -> None:
    """``BadInput`` for a network that is not a float one in Python: TorchScript, quantized, prepared for it."""
    import torch
    from torch.ao.quantization import FakeQuantizeBase, ObserverBase

    if isinstance(network, torch.jit.ScriptModule):
        raise BadInput(
            f"'{name}' returned a TorchScript module ({type(network).__name__}), which torch.export does not take: let "
            "the factory return the torch.nn.Module that it was made of. The weights are read from its state dict."
        )
    for path, module in network.named_modules():
        kind = f"{type(module).__module__}.{type(module).__name__}"
        where = f"'{path}' is a {kind}" if path else kind
        if isinstance(module, (FakeQuantizeBase, ObserverBase)) or kind.startswith(PREPARED):
            raise BadInput(
                f"'{name}' is already prepared for quantization ({where}): let the factory return the float network. "
                "It is calibrated and quantized here."
            )
        if kind.startswith(QUANTIZED):
            raise BadInput(
                f"'{name}' is already quantized ({where}): let the factory return the float network, and give its "
                "float weights. It is calibrated and quantized here."
            )


PREPARED = ("torch.ao.nn.qat.", "torch.ao.nn.intrinsic.qat.", "torch.ao.nn.quantizable.")
QUANTIZED = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.", "torch.ao.nn.sparse.quantized.")


def _check_parameters(network: nn.Module, name: str) -> None:
    """``BadInput`` unless every parameter is float32 and has a size, and every tensor has values."""
    import torch

    for path, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_meta and not torch.nn.parameter.is_lazy(tensor):
            raise BadInput(
                f"'{name}' has tensors without values ('{path}' is on the meta device): build the network on the CPU. "
                "Its weights are loaded afterwards."
            )
    for path, parameter in network.named_parameters():
        if torch.nn.parameter.is_lazy(parameter):
            raise BadInput(
                f"'{name}' has a parameter without a size ('{path}', of a lazy module): run the network once in the "
                "factory, on zeros of its input size, or name the sizes."
            )
        if parameter.is_complex():
            raise BadInput(
                f"'{name}' computes with complex numbers ('{path}' is {_dtype(parameter)}), which no device file "
                "holds: keep the real and the imaginary part as two float32 parameters."
            )
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise BadInput(
                f"'{name}' computes in {_dtype(parameter)} ('{path}'), and networks are calibrated and exported from "
                "float32: let the factory return network.float(). A checkpoint with weights of another precision is "
                "read as it is; smaller files are `precision=fp16` or int8."
            )


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def check_logits(network: nn.Module, name: str, classes: int, preprocess: Preprocess, pictures: int = 1) -> None:
    """Run so many pictures through; ``BadInput`` unless that gives float logits ``[pictures, classes]``."""
    import torch

    from pipeline.graphs.blame import where_failed

    given = f"{pictures} pictures" if pictures > 1 else "one picture"
    shape = [pictures, 3, preprocess.height, preprocess.width]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            logits = network(torch.zeros(*shape))
    except Exception as error:
        line = first_line(error)
        channels = CHANNELS.search(str(error))
        size = " Another size is `input`." if not channels and re.search("size|shape", line, re.IGNORECASE) else ""
        size += "" if channels is None else f" {_of_channels(int(channels[1]))}."
        raise BadInput(
            f"'{name}' fails on {given} {shape} with {type(error).__name__}: "
            f"{line}{where_failed(error, network)}.{size}",
            traceback_helps=True,
        ) from error
    finally:
        network.train(was_training)
    if not isinstance(logits, torch.Tensor):
        raise BadInput(
            f"'{name}' returns a {type(logits).__name__} in evaluation mode; logits [N, {classes}] are needed."
            f"{_unpacking(logits)}"
        )
    if tuple(logits.shape) != (pictures, classes) or not logits.is_floating_point():
        raise BadInput(
            f"'{name}' returns {str(logits.dtype).removeprefix('torch.')} {list(logits.shape)} for {given}; logits "
            f"[{pictures}, {classes}], one for each label, are needed."
        )


CHANNELS = re.compile(r"to have (\d+) channels, but got 3 channels")


def _of_channels(channels: int) -> str:
    """What helps a network that does not take RGB."""
    return (
        f"Images have 3 channels (RGB), and this layer takes {channels}: let the factory return a network that takes 3"
        + (", as one that computes x.mean(1, keepdim=True) first" if channels == 1 else "")
    )


def _unpacking(answer: Any) -> str:
    """How to get at one tensor of several, where they are named or numbered."""
    if isinstance(answer, dict) and answer:
        first, names = next(iter(answer)), ", ".join(map(repr, list(answer)[:4]))
        return f" It has {names}: let the factory return a network that answers with one, as in net(x)[{first!r}]."
    if isinstance(answer, (tuple, list)) and answer:
        return f" It has {len(answer)}: let the factory return a network that answers with one, as in net(x)[0]."
    return ""


def _is_of_a_gpu(error: Exception) -> bool:
    return any(word in str(error) for word in ("CUDA", "cuda", "NVIDIA", "HIP", "MPS", "XPU"))


def _from_file(path: Path) -> ModuleType:
    """Import a file as a module of its own; what lies beside it can be imported, as if it had been started."""
    try:
        place = path.resolve(strict=True)
    except OSError as error:
        raise BadInput(f"Cannot read '{path}': {error.strerror}.") from error
    name = f"_own_{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, place)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    sys.path.insert(0, str(place.parent))
    try:
        specification.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise _failed(str(path), error) from error
    finally:
        sys.path.remove(str(place.parent))
    return module


def _from_package(name: str) -> ModuleType:
    """Import by name, also from the folder that the user is in."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name and name.startswith(error.name):
            raise BadInput(
                f"No module '{name}' here or installed. A file is written with its path: net.py:factory."
            ) from error
        raise _failed(name, error) from error
    finally:
        sys.path.remove(here)


def _failed(what: str, error: BaseException) -> BaseException:
    """Errors in the user's file, ``sys.exit`` too, are theirs; Ctrl-C is nobody's."""
    if isinstance(error, (Exception, SystemExit)):
        said = f"'{what}' failed with {type(error).__name__}: {first_line(error)}."
        return BadInput(said, traceback_helps=True)
    return error
